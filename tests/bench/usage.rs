//! What a process has used, as Linux tells it.

use std::fs;

/// CPU seconds and peak memory of a process so far.
#[derive(Debug, Clone, Copy, Default)]
pub struct Usage {
    /// User and system time, in seconds.
    pub cpu_seconds: f64,
    /// The most memory that was resident at a time, in bytes.
    pub peak_bytes: u64,
}

/// Usage of a process; nothing if it is gone.
pub fn of(pid: u32) -> Option<Usage> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // After the command's name: state, and ten numbers before user and system time.
    let mut times = stat.rsplit_once(')')?.1.split_whitespace().skip(11);
    let mut ticks = || times.next()?.parse::<f64>().ok();
    let ticks = ticks()? + ticks()?;
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let peak = status.lines().find(|line| line.starts_with("VmHWM:"))?;
    let kib: u64 = peak.split_whitespace().nth(1)?.parse().ok()?;
    // SAFETY: a question about a constant of the system.
    let per_second = unsafe { libc::sysconf(libc::_SC_CLK_TCK) };
    Some(Usage {
        cpu_seconds: ticks / per_second as f64,
        peak_bytes: kib * 1024,
    })
}
