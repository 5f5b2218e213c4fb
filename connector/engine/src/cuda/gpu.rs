//! What the backend asks of a device: memory, kernels by name, and matrix products.
//!
//! A driver is one implementation, the emulator of the tests the other.

use std::fmt;

/// Where something lies in a device's memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Address(pub(crate) u64);

impl Address {
    /// Nothing: an operand that is left out.
    pub(crate) const NULL: Self = Self(0);

    pub(crate) fn offset(self, bytes: usize) -> Self {
        Self(self.0 + bytes as u64)
    }
}

/// An argument of a kernel.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Argument {
    At(Address),
    Int(i32),
    Float(f32),
}

impl From<Address> for Argument {
    fn from(address: Address) -> Self {
        Self::At(address)
    }
}

impl From<usize> for Argument {
    fn from(value: usize) -> Self {
        Self::Int(i32::try_from(value).expect("sizes of a model fit 32 bits"))
    }
}

impl From<f32> for Argument {
    fn from(value: f32) -> Self {
        Self::Float(value)
    }
}

impl Argument {
    /// Where its value lies, as launches want it.
    pub(crate) fn pointer(&self) -> *mut std::ffi::c_void {
        match self {
            Self::At(address) => (&raw const address.0).cast_mut().cast(),
            Self::Int(value) => std::ptr::from_ref(value).cast_mut().cast(),
            Self::Float(value) => std::ptr::from_ref(value).cast_mut().cast(),
        }
    }
}

/// Type of weights, of products' inputs, and of keys and values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Element {
    F32,
    Bf16,
}

impl Element {
    pub(crate) fn bytes(self) -> usize {
        match self {
            Self::F32 => 4,
            Self::Bf16 => 2,
        }
    }
}

/// `out[rows, n] (+)= x[rows, k] · weights[n, k]ᵀ`; rows of `out`, f32, begin `stride` values apart.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Product {
    pub(crate) element: Element,
    pub(crate) x: Address,
    pub(crate) weights: Address,
    pub(crate) out: Address,
    pub(crate) rows: usize,
    pub(crate) n: usize,
    pub(crate) k: usize,
    pub(crate) stride: usize,
    pub(crate) add: bool,
}

/// What failed on a device, and why.
#[derive(Debug, thiserror::Error)]
#[error("{operation} failed: {problem}")]
pub(crate) struct GpuError {
    operation: &'static str,
    problem: String,
}

impl GpuError {
    pub(crate) fn new(operation: &'static str, problem: impl fmt::Display) -> Self {
        Self {
            operation,
            problem: problem.to_string(),
        }
    }
}

/// A device. Calls are in order.
///
/// Addresses are not checked, nor the sizes behind them: that they are right is what the backend's
/// tests are for.
pub(crate) trait Gpu: Send + 'static {
    /// Makes the device current for the calling thread.
    fn enter(&mut self) -> Result<(), GpuError>;
    /// Zeroed memory; what is not freed is freed with the device.
    fn allocate(&mut self, bytes: usize) -> Result<Address, GpuError>;
    fn free(&mut self, address: Address) -> Result<(), GpuError>;
    /// The bytes may change when this returns.
    fn upload(&mut self, bytes: &[u8], to: Address) -> Result<(), GpuError>;
    /// Waits for everything before it.
    fn download(&mut self, from: Address, bytes: &mut [u8]) -> Result<(), GpuError>;
    fn launch(
        &mut self,
        kernel: &'static str,
        blocks: [usize; 2],
        arguments: &[Argument],
    ) -> Result<(), GpuError>;
    fn multiply(&mut self, product: &Product) -> Result<(), GpuError>;
    /// Waits for everything before it.
    fn finish(&mut self) -> Result<(), GpuError>;
}

/// The kernels of `kernels.cu`, and how many arguments each takes.
pub(crate) const KERNELS: [(&str, usize); 13] = [
    ("norm_within", 5),
    ("add_branch", 6),
    ("add_bias", 4),
    ("gather", 4),
    ("read_out", 6),
    ("norm_f32", 5),
    ("split_f32", 14),
    ("attend_f32", 14),
    ("glu_f32", 4),
    ("norm_bf16", 5),
    ("split_bf16", 14),
    ("attend_bf16", 14),
    ("glu_bf16", 4),
];

/// Panics unless the kernel takes so many arguments: a launch would read beyond them.
pub(crate) fn check_arguments(kernel: &str, arguments: &[Argument]) {
    let taken = KERNELS.iter().find(|(name, _)| *name == kernel);
    let taken = taken.map(|&(_, count)| count);
    assert_eq!(taken, Some(arguments.len()), "arguments of {kernel}");
}

/// The kernels whose type is the element's.
pub(crate) struct Typed {
    pub(crate) norm: &'static str,
    pub(crate) split: &'static str,
    pub(crate) attend: &'static str,
    pub(crate) glu: &'static str,
}

impl Typed {
    pub(crate) fn of(element: Element) -> Self {
        match element {
            Element::F32 => Self {
                norm: "norm_f32",
                split: "split_f32",
                attend: "attend_f32",
                glu: "glu_f32",
            },
            Element::Bf16 => Self {
                norm: "norm_bf16",
                split: "split_bf16",
                attend: "attend_bf16",
                glu: "glu_bf16",
            },
        }
    }
}
