//! Arithmetic on slices: matrix products on packed weights, attention over pages, and the small
//! operations between them.
//!
//! One rule decides every kernel here: **the value of a row is computed by the same operations in
//! the same order, whatever else is in the batch**. Vector lanes hold different output columns
//! (or different keys), never parts of one sum, and every sum runs along its dimension in one
//! fixed order. That makes an output independent of batch, chunking, threads and vector width,
//! and it is also what runs fastest for small models: no horizontal sums, no operand packing at
//! run time.

mod activation;
mod aligned;
mod attention;
mod element;
mod heads;
mod kv;
mod lanes;
mod matmul;
mod matmul_f32;
mod matmul_q4;
mod matmul_q8;
mod matrix;
mod peak;
mod pool;
mod quantize;
mod readout;
mod sums;

use std::fmt;

use crate::LoadError;

pub(crate) use activation::{glu, rms_norm, rms_norm_within, softcap};
pub(crate) use aligned::Aligned;
pub(crate) use attention::{Attend, AttentionShape, attend};
pub(crate) use heads::{HeadShape, Place, split_heads};
pub(crate) use kv::{KvPrecision, KvStore};
pub(crate) use lanes::LANES;
pub(crate) use matmul::{Epilogue, matmul, matmul_columns};
pub(crate) use matrix::{Matrix, Narrow, Precision};
pub(crate) use peak::measure;
pub(crate) use pool::Pool;
pub(crate) use quantize::QuantizedRows;
pub(crate) use readout::{Reading, read, read_one};

/// Which instruction set the kernels use; found at run time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Isa {
    pub(crate) floats: Floats,
    pub(crate) bytes: Bytes,
}

/// Instruction set of the f32 kernels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Floats {
    #[cfg(target_arch = "x86_64")]
    Avx512,
    #[cfg(target_arch = "x86_64")]
    Avx2,
    Portable,
}

impl Floats {
    /// Whether floats of sixteen bits are widened so fast that a product may do it whenever it
    /// reads them.
    pub(crate) fn widens(self, kind: Narrow) -> bool {
        // Plain arrays take a dozen operations for f16, and one for bf16.
        self != Self::Portable || kind == Narrow::Bf16
    }
}

/// Instruction set of the int8 kernels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Bytes {
    #[cfg(target_arch = "x86_64")]
    Avx512Vnni,
    #[cfg(target_arch = "x86_64")]
    Avx2,
    Portable,
}

impl Isa {
    /// The one of that name, or the best that this machine has.
    pub(crate) fn named(name: Option<&str>) -> Result<Self, LoadError> {
        let available = Self::available();
        let Some(name) = name else {
            return Ok(available[0]);
        };
        let found = available.iter().find(|isa| isa.to_string() == name);
        found.copied().ok_or_else(|| {
            let names: Vec<String> = available.iter().map(Self::to_string).collect();
            LoadError::Setting {
                setting: "kernels",
                value: name.to_owned(),
                problem: format!("is not available on this machine; use {}", names.join(", ")),
            }
        })
    }

    /// All that this machine has, best first.
    pub(crate) fn available() -> Vec<Self> {
        let mut found = Vec::new();
        #[cfg(target_arch = "x86_64")]
        {
            let avx2 = is_x86_feature_detected!("avx2")
                && is_x86_feature_detected!("fma")
                && is_x86_feature_detected!("f16c");
            let avx512 = avx2 && is_x86_feature_detected!("avx512f");
            let vnni = avx512
                && is_x86_feature_detected!("avx512bw")
                && is_x86_feature_detected!("avx512vl")
                && is_x86_feature_detected!("avx512vnni");
            if vnni {
                found.push(Self {
                    floats: Floats::Avx512,
                    bytes: Bytes::Avx512Vnni,
                });
            }
            if avx512 {
                found.push(Self {
                    floats: Floats::Avx512,
                    bytes: Bytes::Avx2,
                });
            }
            if avx2 {
                found.push(Self {
                    floats: Floats::Avx2,
                    bytes: Bytes::Avx2,
                });
            }
        }
        found.push(Self {
            floats: Floats::Portable,
            bytes: Bytes::Portable,
        });
        found
    }
}

impl fmt::Display for Isa {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match (self.floats, self.bytes) {
            #[cfg(target_arch = "x86_64")]
            (_, Bytes::Avx512Vnni) => "avx512-vnni",
            #[cfg(target_arch = "x86_64")]
            (Floats::Avx512, _) => "avx512",
            #[cfg(target_arch = "x86_64")]
            (Floats::Avx2, _) => "avx2",
            _ => "portable",
        })
    }
}

/// A pointer that several threads write through, each to its own part.
#[derive(Clone, Copy)]
struct Shared<T>(*mut T);

// SAFETY: the pool's chunks write disjoint parts; each use states which.
unsafe impl<T: Send> Send for Shared<T> {}
unsafe impl<T: Send> Sync for Shared<T> {}

impl<T> Shared<T> {
    fn of(slice: &mut [T]) -> Self {
        Self(slice.as_mut_ptr())
    }

    /// The pointer `offset` values on; a method, so that closures capture the whole wrapper.
    unsafe fn at(self, offset: usize) -> *mut T {
        unsafe { self.0.add(offset) }
    }
}

/// Compiles a kernel that is generic over [`lanes::Lanes`] for each instruction set, behind one
/// function that takes a [`Floats`] first.
macro_rules! for_each_isa {
    ($(#[$attribute:meta])* $vis:vis unsafe fn $name:ident($($arg:ident: $type:ty),* $(,)?) = $body:ident) => {
        $(#[$attribute])*
        $vis unsafe fn $name(isa: $crate::kernels::Floats, $($arg: $type),*) {
            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx512f,avx2,fma,f16c")]
            unsafe fn avx512($($arg: $type),*) {
                unsafe { $body::<$crate::kernels::lanes::Avx512>($($arg),*) }
            }
            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx2,fma,f16c")]
            unsafe fn avx2($($arg: $type),*) {
                unsafe { $body::<$crate::kernels::lanes::Avx2>($($arg),*) }
            }
            // SAFETY: `Floats` names only what `Isa::available` found on this machine.
            unsafe {
                match isa {
                    #[cfg(target_arch = "x86_64")]
                    $crate::kernels::Floats::Avx512 => avx512($($arg),*),
                    #[cfg(target_arch = "x86_64")]
                    $crate::kernels::Floats::Avx2 => avx2($($arg),*),
                    $crate::kernels::Floats::Portable => {
                        $body::<$crate::kernels::lanes::Portable>($($arg),*)
                    }
                }
            }
        }
    };
}
use for_each_isa;
