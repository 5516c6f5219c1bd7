//! CPU time of a process, from `/proc/<pid>/stat` (proc(5), fields 14 and 15).

use std::time::Duration;

use anyhow::Context;

/// User and system time of process `pid` so far.
pub(crate) fn spent(pid: u32) -> anyhow::Result<Duration> {
    let file = format!("/proc/{pid}/stat");
    let stat = std::fs::read_to_string(&file).with_context(|| file.clone())?;
    let ticks = ticks(&stat).with_context(|| format!("{file} has no CPU times"))?;
    let per_second = rustix::param::clock_ticks_per_second();
    Ok(Duration::from_millis(ticks * 1_000 / per_second))
}

/// The name of the process stands in parentheses and may hold anything, so fields are counted behind the last one.
fn ticks(stat: &str) -> Option<u64> {
    let (_, fields) = stat.rsplit_once(')')?;
    let mut times = fields.split_whitespace().skip(11).map(|ticks| ticks.parse::<u64>().ok());
    Some(times.next()?? + times.next()??)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_found_behind_any_name() {
        assert_eq!(ticks("7 (a) b (c)) S 1 7 7 0 -1 4194560 99 0 0 0 250 50 3 4 20"), Some(300));
        assert_eq!(ticks("7 (short) S 1"), None);
    }

    #[test]
    fn this_process_has_a_figure() {
        assert!(spent(std::process::id()).is_ok());
    }
}
