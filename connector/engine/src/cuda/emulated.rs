//! A device without a device: `kernels.cu`, compiled by the machine's C++ compiler.

use std::{ffi::CString, path::PathBuf, process::Command, sync::OnceLock};

use libloading::Library;

use super::gpu::{Address, Argument, Element, Gpu, GpuError, Product, check_arguments};

type Emulate =
    unsafe extern "C" fn(*const std::ffi::c_char, u32, u32, u32, *mut *mut std::ffi::c_void) -> i32;
type Multiply = unsafe extern "C" fn(u64, u64, u64, i32, i32, i32, i32, i32, i32);

/// Threads of a block: few, for each is a thread of the machine.
const THREADS: u32 = 4;

/// Memory of the process, in place of a device's.
pub(super) struct Emulated {
    threads: u32,
    allocations: Vec<Vec<u64>>,
    /// Bytes that are left.
    room: usize,
}

/// Whether there is a kernel of that name.
pub(super) fn knows(kernel: &str) -> bool {
    let name = CString::new(kernel).expect("a name without zeros");
    // SAFETY: the signature is that of emulator.cpp; without threads nothing is launched.
    unsafe {
        let emulate = library()
            .get::<Emulate>(b"emulate")
            .expect("it is exported");
        emulate(name.as_ptr(), 0, 0, 0, std::ptr::null_mut()) == 0
    }
}

/// Compiles the kernels once for all tests of a process.
fn library() -> &'static Library {
    static LIBRARY: OnceLock<Library> = OnceLock::new();
    LIBRARY.get_or_init(|| {
        let source = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("src/cuda/emulator.cpp");
        let folder = tempfile::tempdir().expect("a folder for the compiled kernels");
        let target = folder.path().join("kernels.so");
        let compiler = "c++";
        let done = Command::new(compiler)
            .args([
                "-std=c++17",
                "-O1",
                "-fPIC",
                "-shared",
                "-pthread",
                "-Wall",
                "-o",
            ])
            .args([&target, &source])
            .output()
            .unwrap_or_else(|error| panic!("running {compiler}: {error}"));
        assert!(
            done.status.success(),
            "{compiler} on kernels.cu:\n{}",
            String::from_utf8_lossy(&done.stderr)
        );
        // SAFETY: its constructors do nothing.
        unsafe { Library::new(&target) }.expect("the compiled kernels load")
    })
}

impl Emulated {
    pub(super) fn new() -> Self {
        Self::with_room(usize::MAX)
    }

    /// A device with so many bytes of memory.
    pub(super) fn with_room(room: usize) -> Self {
        library();
        Self {
            threads: THREADS,
            allocations: Vec::new(),
            room,
        }
    }

    /// A device whose blocks have so many threads.
    pub(super) fn with_threads(threads: u32) -> Self {
        Self {
            threads,
            ..Self::new()
        }
    }

    /// Panics unless all of these bytes were allocated: what a device might overlook.
    fn check(&self, address: Address, bytes: usize) {
        let inside = self.allocations.iter().any(|memory| {
            let start = memory.as_ptr() as u64;
            let end = start + 8 * memory.len() as u64;
            (start..=end).contains(&address.0) && address.0 + bytes as u64 <= end
        });
        assert!(
            inside,
            "{bytes} bytes at {:#x} are not allocated",
            address.0
        );
    }
}

impl Gpu for Emulated {
    fn enter(&mut self) -> Result<(), GpuError> {
        Ok(())
    }

    fn allocate(&mut self, bytes: usize) -> Result<Address, GpuError> {
        if bytes > self.room {
            let problem = format!("{bytes} bytes wanted, {} left", self.room);
            return Err(GpuError::new("allocating memory", problem));
        }
        self.room -= bytes;
        let memory = vec![0_u64; bytes.div_ceil(8).max(1)];
        let address = Address(memory.as_ptr() as u64);
        self.allocations.push(memory);
        Ok(address)
    }

    fn free(&mut self, address: Address) -> Result<(), GpuError> {
        let before = self.allocations.len();
        self.allocations
            .retain(|memory| memory.as_ptr() as u64 != address.0);
        assert_eq!(
            self.allocations.len() + 1,
            before,
            "what is freed was allocated"
        );
        Ok(())
    }

    fn upload(&mut self, bytes: &[u8], to: Address) -> Result<(), GpuError> {
        self.check(to, bytes.len());
        // SAFETY: allocated, as just checked, and nobody else holds it.
        unsafe {
            std::ptr::copy_nonoverlapping(bytes.as_ptr(), to.0 as *mut u8, bytes.len());
        }
        Ok(())
    }

    fn download(&mut self, from: Address, bytes: &mut [u8]) -> Result<(), GpuError> {
        self.check(from, bytes.len());
        // SAFETY: allocated, as just checked.
        unsafe {
            std::ptr::copy_nonoverlapping(from.0 as *const u8, bytes.as_mut_ptr(), bytes.len());
        }
        Ok(())
    }

    fn launch(
        &mut self,
        kernel: &'static str,
        [x, y]: [usize; 2],
        arguments: &[Argument],
    ) -> Result<(), GpuError> {
        // Shared memory of a block is the process's: one launch at a time.
        static ONE: std::sync::Mutex<()> = std::sync::Mutex::new(());
        let _one = ONE
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        check_arguments(kernel, arguments);
        let name = CString::new(kernel).expect("a name without zeros");
        let mut pointers: Vec<_> = arguments.iter().map(Argument::pointer).collect();
        // SAFETY: the signature is that of emulator.cpp; arguments are those of the kernel, whose
        // pointers lie in this process.
        let unknown = unsafe {
            let emulate = library()
                .get::<Emulate>(b"emulate")
                .expect("it is exported");
            emulate(
                name.as_ptr(),
                x as u32,
                y as u32,
                self.threads,
                pointers.as_mut_ptr(),
            )
        };
        assert_eq!(unknown, 0, "there is a kernel named {kernel}");
        Ok(())
    }

    fn multiply(&mut self, product: &Product) -> Result<(), GpuError> {
        let p = product;
        self.check(p.x, p.rows * p.k * p.element.bytes());
        self.check(p.weights, p.n * p.k * p.element.bytes());
        self.check(p.out, ((p.rows - 1) * p.stride + p.n) * 4);
        let wide = i32::from(p.element == Element::F32);
        // SAFETY: the signature is that of emulator.cpp, and the operands are allocated.
        unsafe {
            let multiply = library()
                .get::<Multiply>(b"multiply")
                .expect("it is exported");
            multiply(
                p.x.0,
                p.weights.0,
                p.out.0,
                p.rows as i32,
                p.n as i32,
                p.k as i32,
                p.stride as i32,
                i32::from(p.add),
                wide,
            );
        }
        Ok(())
    }

    fn finish(&mut self) -> Result<(), GpuError> {
        Ok(())
    }
}
