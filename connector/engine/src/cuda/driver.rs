//! A CUDA device through its driver, and cuBLAS; both are loaded when the first device is opened.

use std::{
    collections::HashMap,
    ffi::{CString, c_void},
    mem::ManuallyDrop,
    sync::Arc,
};

use cudarc::{
    cublas::{
        CudaBlas, result as blas,
        sys::{cublasComputeType_t, cublasGemmAlgo_t, cublasOperation_t, cudaDataType},
    },
    driver::{CudaContext, CudaStream, result, sys},
};

use super::gpu::{Address, Argument, Element, Gpu, GpuError, KERNELS, Product, check_arguments};
use crate::LoadError;

/// `kernels.cu` as nvcc left it, ended by a zero.
const PTX: &str = concat!(include_str!(concat!(env!("OUT_DIR"), "/kernels.ptx")), "\0");

/// Threads of a block.
const THREADS: u32 = 256;

/// A device with its kernels loaded. What it allocated lives as long as it does.
pub(crate) struct Driver {
    kernels: HashMap<&'static str, sys::CUfunction>,
    module: sys::CUmodule,
    allocations: Vec<sys::CUdeviceptr>,
    /// Given back only while the device works: giving it back panics where that fails.
    blas: ManuallyDrop<CudaBlas>,
    stream: Arc<CudaStream>,
    context: Arc<CudaContext>,
}

// SAFETY: handles of the driver may be used from any thread, one at a time; `enter` makes the
// context current there.
unsafe impl Send for Driver {}

impl Driver {
    /// Opens a device by number.
    ///
    /// # Errors
    /// If the driver or cuBLAS is not installed, there is no such device, or it is older than the
    /// kernels were compiled for.
    pub(crate) fn open(number: usize) -> Result<Self, LoadError> {
        let problem = |problem: String| LoadError::Setting {
            setting: "device",
            value: format!("cuda:{number}"),
            problem,
        };
        // SAFETY: loading and unloading these libraries runs what they run at start and end.
        let (driver, cublas) = unsafe {
            (
                sys::is_culib_present(),
                cudarc::cublas::sys::is_culib_present(),
            )
        };
        for (present, library, hint) in [
            (driver, "libcuda.so.1", "NVIDIA's driver brings it"),
            (
                cublas,
                "libcublas.so",
                "set LD_LIBRARY_PATH to where it lies",
            ),
        ] {
            if !present {
                return Err(problem(format!(
                    "needs {library}, which is not found; {hint}"
                )));
            }
        }
        Self::load(number).map_err(|error| problem(format!("cannot be used: {error}")))
    }

    fn load(number: usize) -> Result<Self, GpuError> {
        let failed = |operation| move |error: result::DriverError| GpuError::new(operation, error);
        let context = CudaContext::new(number).map_err(failed("opening the device"))?;
        let stream = context.new_stream().map_err(failed("making a stream"))?;
        let blas = CudaBlas::new(Arc::clone(&stream))
            .map_err(|error| GpuError::new("starting cuBLAS", error))?;
        // SAFETY: PTX ends with a zero; the module is unloaded when this is dropped.
        let module = unsafe { result::module::load_data(PTX.as_ptr().cast()) }
            .map_err(failed("compiling the kernels for this device"))?;
        let mut driver = Self {
            kernels: HashMap::new(),
            module,
            allocations: Vec::new(),
            blas: ManuallyDrop::new(blas),
            stream,
            context,
        };
        for (kernel, _) in KERNELS {
            let name = CString::new(kernel).expect("a name without zeros");
            // SAFETY: the module is loaded.
            let function = unsafe { result::module::get_function(module, name) }
                .map_err(failed("finding a kernel"))?;
            driver.kernels.insert(kernel, function);
        }
        Ok(driver)
    }
}

impl Gpu for Driver {
    fn enter(&mut self) -> Result<(), GpuError> {
        self.context
            .bind_to_thread()
            .map_err(|error| GpuError::new("entering the device", error))
    }

    fn allocate(&mut self, bytes: usize) -> Result<Address, GpuError> {
        let failed = |error| GpuError::new("allocating memory on the device", error);
        // SAFETY: the context is current, and the memory is fresh.
        unsafe {
            let pointer = result::malloc_sync(bytes.max(1)).map_err(failed)?;
            self.allocations.push(pointer);
            result::memset_d8_async(pointer, 0, bytes.max(1), self.stream.cu_stream())
                .map_err(failed)?;
            Ok(Address(pointer))
        }
    }

    fn free(&mut self, address: Address) -> Result<(), GpuError> {
        self.finish()?;
        self.allocations.retain(|&pointer| pointer != address.0);
        // SAFETY: allocated by `allocate`, and nothing uses it any more.
        unsafe { result::free_sync(address.0) }
            .map_err(|error| GpuError::new("freeing memory of the device", error))
    }

    fn upload(&mut self, bytes: &[u8], to: Address) -> Result<(), GpuError> {
        let failed = |error| GpuError::new("copying to the device", error);
        // SAFETY: the bytes stay until the copy is waited for.
        unsafe { result::memcpy_htod_async(to.0, bytes, self.stream.cu_stream()) }
            .map_err(failed)?;
        self.stream.synchronize().map_err(failed)
    }

    fn download(&mut self, from: Address, bytes: &mut [u8]) -> Result<(), GpuError> {
        let failed = |error| GpuError::new("copying from the device", error);
        // SAFETY: waited for below, before anybody reads the bytes.
        unsafe { result::memcpy_dtoh_async(bytes, from.0, self.stream.cu_stream()) }
            .map_err(failed)?;
        self.stream.synchronize().map_err(failed)
    }

    fn launch(
        &mut self,
        kernel: &'static str,
        [x, y]: [usize; 2],
        arguments: &[Argument],
    ) -> Result<(), GpuError> {
        check_arguments(kernel, arguments);
        let mut pointers: Vec<*mut c_void> = arguments.iter().map(Argument::pointer).collect();
        // SAFETY: there are as many arguments as the kernel takes; they are copied by the launch, and
        // what they point at lives until the device is dropped.
        unsafe {
            result::launch_kernel(
                self.kernels[kernel],
                (x as u32, y as u32, 1),
                (THREADS, 1, 1),
                0,
                self.stream.cu_stream(),
                &mut pointers,
            )
        }
        .map_err(|error| GpuError::new("launching a kernel", format!("{kernel}: {error}")))
    }

    fn multiply(&mut self, product: &Product) -> Result<(), GpuError> {
        let element = match product.element {
            Element::F32 => cudaDataType::CUDA_R_32F,
            Element::Bf16 => cudaDataType::CUDA_R_16BF,
        };
        let (alpha, beta) = (1.0_f32, if product.add { 1.0_f32 } else { 0.0 });
        // cuBLAS reads matrices column by column: it computes weights · xᵀ, which is the output
        // row by row.
        // SAFETY: the operands hold as many values as the sizes say.
        unsafe {
            blas::gemm_ex(
                *self.blas.handle(),
                cublasOperation_t::CUBLAS_OP_T,
                cublasOperation_t::CUBLAS_OP_N,
                product.n as i32,
                product.rows as i32,
                product.k as i32,
                (&raw const alpha).cast(),
                product.weights.0 as *const c_void,
                element,
                product.k as i32,
                product.x.0 as *const c_void,
                element,
                product.k as i32,
                (&raw const beta).cast(),
                product.out.0 as *mut c_void,
                cudaDataType::CUDA_R_32F,
                product.stride as i32,
                cublasComputeType_t::CUBLAS_COMPUTE_32F,
                cublasGemmAlgo_t::CUBLAS_GEMM_DEFAULT,
            )
        }
        .map_err(|error| GpuError::new("a matrix product", error))
    }

    fn finish(&mut self) -> Result<(), GpuError> {
        self.stream
            .synchronize()
            .map_err(|error| GpuError::new("waiting for the device", error))
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        // A device that is lost has nothing left to free, and fails whatever it is asked.
        if self.enter().and_then(|()| self.finish()).is_err() {
            return;
        }
        // SAFETY: dropped nowhere else, and not used any more.
        unsafe { ManuallyDrop::drop(&mut self.blas) };
        for pointer in self.allocations.drain(..) {
            // SAFETY: allocated by this driver, and no longer in use.
            let _ = unsafe { result::free_sync(pointer) };
        }
        // SAFETY: loaded by `load`, unloaded nowhere else.
        let _ = unsafe { result::module::unload(self.module) };
    }
}
