//! What another process costs, as /proc tells it.

use std::fs;

use crate::sys;

/// A process that is being measured.
#[derive(Clone, Copy)]
pub struct Process(pub u32);

/// The memory of a process, in kilobytes.
#[derive(Clone, Copy, Debug, Default)]
pub struct Memory {
    /// Resident.
    pub resident: u64,
    /// The part of it that no file stands behind: heap and stacks.
    pub anonymous: u64,
}

/// How much memory the system could still give out, in kilobytes.
pub fn available() -> Option<u64> {
    let all = fs::read_to_string("/proc/meminfo").ok()?;
    all.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?.split_whitespace().next()?.parse().ok()
}

impl Process {
    fn file(self, name: &str) -> Result<String, String> {
        let path = format!("/proc/{}/{name}", self.0);
        fs::read_to_string(&path).map_err(|why| format!("{path}: {why}"))
    }

    /// CPU time so far in seconds, user and system together, of all threads.
    pub fn cpu(self) -> Result<f64, String> {
        let stat = self.file("stat")?;
        // The command's name stands in brackets and may hold anything; the fields are counted from behind it.
        let fields = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
        let mut ticks = fields.split_whitespace().skip(11).map_while(|field| field.parse::<f64>().ok());
        let (user, system) = ticks.next().zip(ticks.next()).ok_or("/proc/PID/stat is not as expected")?;
        let ticked = (user + system) / sys::clock_ticks();
        // The scheduler's own count is exact to the nanosecond, but threads that have ended are not in it.
        let exact = self.scheduled().unwrap_or(0.0);
        Ok(if (exact - ticked).abs() < 0.05 { exact } else { ticked })
    }

    fn scheduled(self) -> Option<f64> {
        let mut nanoseconds = 0.0;
        for task in fs::read_dir(format!("/proc/{}/task", self.0)).ok()? {
            let line = fs::read_to_string(task.ok()?.path().join("schedstat")).ok()?;
            nanoseconds += line.split_whitespace().next()?.parse::<f64>().ok()?;
        }
        Some(nanoseconds / 1e9)
    }

    /// The memory now.
    pub fn memory(self) -> Result<Memory, String> {
        let rollup = self.file("smaps_rollup")?;
        let field = |name: &str| {
            let line = rollup.lines().find(|line| line.starts_with(name))?;
            line.split_whitespace().nth(1)?.parse().ok()
        };
        field("Rss:")
            .zip(field("Anonymous:"))
            .map(|(resident, anonymous)| Memory { resident, anonymous })
            .ok_or_else(|| format!("/proc/{}/smaps_rollup is not as expected", self.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::hint::black_box;
    use std::time::Instant;

    #[test]
    fn a_busy_process_uses_cpu_and_memory() {
        let me = Process(std::process::id());
        let (before, memory) = (me.cpu().unwrap(), me.memory().unwrap());
        // Much more than other tests give back meanwhile.
        let ballast = black_box(vec![1u8; 64 << 20]);
        let began = Instant::now();
        while me.cpu().unwrap() < before + 0.05 {
            assert!(began.elapsed().as_secs() < 20, "a busy loop uses no CPU");
        }
        assert!(me.memory().unwrap().anonymous >= memory.anonymous + (48 << 10));
        assert!(ballast[7] == 1);
    }

    #[test]
    fn a_process_that_is_gone_is_an_error() {
        assert!(Process(u32::MAX).cpu().is_err());
        assert!(Process(u32::MAX).memory().is_err());
    }
}
