//! The kernels and the forward pass against those of the CPU, on the emulator.

use std::{num::NonZeroUsize, sync::Arc};

use super::{
    emulated::{Emulated, knows},
    gpu::KERNELS,
    *,
};
use crate::{
    cpu::Cpu,
    decoder::{WeightPrecision, fixture},
    kernels::Isa,
};

fn decoder(family: &str) -> Arc<Decoder> {
    let isa = Isa::named(None).expect("there is one");
    Arc::new(fixture(family, WeightPrecision::F32, isa))
}

/// Steps that cross pages, go on where others ended, check drafts, and need no logits, up to a
/// context of `tokens`.
fn run(backend: &mut dyn Backend, tokens: u32) -> (Vec<f32>, Vec<Reading>) {
    let prompt: Vec<u32> = (0..tokens).map(|i| 3 + i * i % 300).collect();
    let (mut step, mut outcome) = (Step::default(), Outcome::default());
    let (mut logits, mut readings) = (Vec::new(), Vec::new());
    let mut forward = |step: &mut Step| {
        step.wants_logits = true;
        backend
            .forward(step, &mut outcome)
            .expect("a device that works");
        assert_eq!(outcome.watched.len(), step.watched.len());
        for (watched, &logprob) in step.watched.iter().zip(&outcome.watched) {
            let vocab = backend.vocab();
            let logits = &outcome.logits[watched.row * vocab..][..vocab];
            let total: f64 = logits.iter().map(|&x| f64::from(x).exp()).sum();
            let plain = f64::from(logits[watched.token as usize]) - total.ln();
            let off = (f64::from(logprob) - plain).abs();
            assert!(off < 1e-3, "row {}: {logprob}, not {plain}", watched.row);
        }
        logits.extend_from_slice(&outcome.logits);
        readings.extend_from_slice(&outcome.readings);
    };
    step.push(&prompt[..41], 0, 0, &[3, 1, 7]);
    forward(&mut step);
    step.clear();
    step.push(&prompt[41..43], 41, 2, &[3, 1, 7]);
    step.watch(6);
    step.push(&prompt[5..25], 0, 3, &[0, 9]);
    step.watch(250);
    step.push(&prompt[7..9], 0, 0, &[10]);
    forward(&mut step);
    // More keys than a block looks at together, and more than a window.
    step.clear();
    let pages: Vec<u32> = [3, 1, 7, 2, 4, 5, 6, 8].into_iter().chain(11..24).collect();
    step.push(&prompt[43..], 43, 1, &pages);
    step.push(&prompt[40..41], 20, 1, &[0, 9]);
    forward(&mut step);
    (logits, readings)
}

const FAMILIES: [&str; 14] = [
    "llama2",
    "llama3",
    "llama_odd",
    "mistral",
    "gemma",
    "gemma2",
    "gemma3",
    "qwen2",
    "qwen3",
    "phi3",
    "granite",
    "smollm3",
    "olmo2",
    "olmo3",
];

/// Pages, rows and sequences for the steps of `run`.
const BUDGET: Budget = Budget {
    step_tokens: 64,
    running: 4,
    pages: 24,
};

fn check<G: Gpu>(
    families: &[&str],
    tokens: u32,
    device: impl Fn() -> G,
    element: Element,
    tolerance: f32,
) {
    for family in families {
        let decoder = decoder(family);
        let mut cpu = Cpu::new(Arc::clone(&decoder), NonZeroUsize::MIN, BUDGET.pages);
        let (expected, expected_readings) = run(&mut cpu, tokens);
        let mut cuda = Cuda::new(device(), 0, &decoder, "models/tiny", element, BUDGET)
            .unwrap_or_else(|error| panic!("{family}: {error}"));
        let (logits, readings) = run(&mut cuda, tokens);
        let size = expected.iter().fold(0.0_f32, |size, x| size.max(x.abs()));
        let error = expected
            .iter()
            .zip(&logits)
            .fold(0.0_f32, |error, (a, b)| error.max((a - b).abs()));
        assert_eq!(logits.len(), 7 * decoder.config.vocab);
        assert!(error < tolerance * size, "{family}: {error} of {size}");
        let vocab = decoder.config.vocab;
        let rows = readings.iter().zip(&expected_readings);
        for (row, (reading, expected)) in rows.enumerate() {
            assert!(reading.finite, "{family}, row {row}");
            let off = (reading.logprob - expected.logprob).abs();
            assert!(off < 10.0 * tolerance * size, "{family}, row {row}: {off}");
            // What is read is what the logits say.
            let logits = &logits[row * vocab..][..vocab];
            let best = logits.iter().fold(f32::MIN, |best, x| best.max(*x));
            let first = logits.iter().position(|x| *x == best);
            assert_eq!(first, Some(reading.token as usize), "{family}, row {row}");
        }
    }
}

#[test]
fn in_f32_every_family_computes_what_the_cpu_does() {
    check(&FAMILIES, 170, Emulated::new, Element::F32, 1e-5);
}

#[test]
fn in_bf16_it_is_off_by_the_rounding_of_weights_and_inputs() {
    check(&FAMILIES, 170, Emulated::new, Element::Bf16, 3e-2);
}

#[test]
fn several_groups_of_threads_mix_the_values() {
    let device = || Emulated::with_threads(32);
    check(&["llama_odd"], 48, device, Element::F32, 1e-5);
}

#[test]
fn logits_that_are_no_numbers_are_noticed_and_the_first_of_the_largest_is_read() {
    check_readings(Emulated::new());
}

fn check_readings(mut gpu: impl Gpu) {
    gpu.enter().expect("a device");
    let rows = [
        [1.0, 5.0, 5.0, -2.0, 0.0],
        [1.0, f32::NAN, 5.0, -2.0, 0.0],
        [f32::NEG_INFINITY, 1.0, 1.0, 1.0, 1.0],
        [f32::NAN; 5],
    ];
    let logits = upload(&mut gpu, rows.as_flattened()).expect("memory");
    let readings = gpu.allocate(48).expect("memory");
    gpu.launch(
        "read_out",
        [4, 1],
        &[
            logits.into(),
            5_usize.into(),
            0.0.into(),
            readings.into(),
            readings.offset(16).into(),
            readings.offset(32).into(),
        ],
    )
    .expect("a kernel");
    let mut numbers = [0_u32; 12];
    gpu.download(readings, bytemuck::cast_slice_mut(&mut numbers))
        .expect("memory");
    assert_eq!(numbers[0], 1);
    assert_eq!(numbers[8..], [1, 0, 0, 0]);
    let total: f32 = rows[0].iter().map(|x| (x - 5.0).exp()).sum();
    assert!((f32::from_bits(numbers[4]) + total.ln()).abs() < 1e-6);
}

#[test]
fn a_head_that_the_kernels_have_no_room_for_is_refused() {
    let mut decoder = Arc::into_inner(decoder("llama2")).expect("it is not shared");
    decoder.config.head = 512;
    let problem = Cuda::new(
        Emulated::new(),
        0,
        &decoder,
        "models/tiny",
        Element::F32,
        BUDGET,
    )
    .err()
    .expect("it is too large");
    assert_eq!(
        problem.to_string(),
        "models/tiny: head_dim = 512 is not supported; supported: even sizes up to 256 on CUDA"
    );
}

#[test]
fn every_kernel_that_a_device_loads_is_there() {
    for (kernel, _) in KERNELS {
        assert!(knows(kernel), "{kernel}");
    }
    assert!(!knows("another"));
}

#[test]
fn a_device_without_room_is_named_at_start_or_lost_at_a_larger_step() {
    let decoder = decoder("llama2");
    let cuda = |room| {
        let gpu = Emulated::with_room(room);
        Cuda::new(gpu, 3, &decoder, "models/tiny", Element::F32, BUDGET)
    };
    let problem = cuda(1_000).err().expect("the model does not fit");
    assert!(
        problem
            .to_string()
            .starts_with("device = cuda:3 cannot take the model: allocating memory failed: "),
        "{problem}"
    );
    // The least that takes the model and its largest step takes no step beyond the budget.
    let (mut least, mut most) = (1_000, 1 << 30);
    while least + 1 < most {
        let room = usize::midpoint(least, most);
        if cuda(room).is_ok() {
            most = room;
        } else {
            least = room;
        }
    }
    let mut cuda = cuda(most).expect("the model fits");
    let mut step = Step::default();
    let pages: Vec<u32> = (0..16).collect();
    step.push(&[1; 60], 0, 1, &pages);
    cuda.forward(&step, &mut Outcome::default())
        .expect("within the budget there is room");
    step.clear();
    step.push(&[1; 200], 0, 200, &pages);
    let lost = cuda
        .forward(&step, &mut Outcome::default())
        .expect_err("beyond it there is none");
    assert!(
        lost.to_string()
            .starts_with("the device failed: allocating memory failed: "),
        "{lost}"
    );
}

#[test]
fn logits_are_handed_over_only_where_they_are_wanted() {
    let decoder = decoder("llama2");
    let mut cuda = Cuda::new(
        Emulated::new(),
        0,
        &decoder,
        "models/tiny",
        Element::F32,
        BUDGET,
    )
    .expect("loads");
    let (mut step, mut outcome) = (Step::default(), Outcome::default());
    step.push(&[1, 2, 3], 0, 2, &[0]);
    cuda.forward(&step, &mut outcome).expect("works");
    assert_eq!((outcome.readings.len(), outcome.logits.len()), (2, 0));
}

/// What the emulator cannot show: run by `cargo test -p aligner-engine --features cuda -- --ignored`.
#[cfg(feature = "cuda")]
mod on_a_device {
    use super::*;

    fn device() -> Driver {
        Driver::open(0).unwrap_or_else(|error| panic!("{error}"))
    }

    #[test]
    #[ignore = "needs an NVIDIA GPU"]
    fn in_f32_every_family_computes_what_the_cpu_does() {
        check(&FAMILIES, 330, device, Element::F32, 1e-4);
    }

    #[test]
    #[ignore = "needs an NVIDIA GPU"]
    fn in_bf16_it_is_off_by_the_rounding_of_weights_and_inputs() {
        check(&FAMILIES, 330, device, Element::Bf16, 3e-2);
    }

    #[test]
    #[ignore = "needs an NVIDIA GPU"]
    fn logits_that_are_no_numbers_are_noticed_and_the_first_of_the_largest_is_read() {
        check_readings(device());
    }
}
