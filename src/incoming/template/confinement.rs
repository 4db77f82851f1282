//! What the process that renders may take: set by itself, before it reads what it is to do, and never to be lifted again.

use std::fs;
use std::io;

use rustix::process::{Resource, Rlimit, setrlimit};

/// Memory beyond what the process has when it starts, in bytes.
const MEMORY: u64 = 128 << 20;

/// All of its memory, where the system does not tell how much it has.
const WHOLE_MEMORY: u64 = 1 << 30;

/// Seconds of a processor.
const PROCESSOR: u64 = 2;

/// Limits this process for the rest of its life: memory, time, no core file, no further file and no further process.
pub(super) fn confine() -> io::Result<()> {
    // If the machine runs out of memory this is to go, and not the service. Where that cannot be said the limits hold all the same.
    let _ = fs::write("/proc/self/oom_score_adj", "1000");
    let memory = fs::read_to_string("/proc/self/status").ok().and_then(|status| size_in(&status));
    limit(Resource::As, memory.map_or(WHOLE_MEMORY, |now| now.saturating_add(MEMORY)))?;
    // At the first the process gets a signal that ends it.
    setrlimit(Resource::Cpu, Rlimit { current: Some(PROCESSOR), maximum: Some(PROCESSOR + 1) })?;
    limit(Resource::Core, 0)?;
    limit(Resource::Fsize, 0)?;
    limit(Resource::Nproc, 0)?;
    // Those it has stay.
    limit(Resource::Nofile, 0)?;
    Ok(())
}

fn limit(resource: Resource, most: u64) -> io::Result<()> {
    Ok(setrlimit(resource, Rlimit { current: Some(most), maximum: Some(most) })?)
}

/// The size of the address space in bytes, as `/proc/self/status` tells it.
fn size_in(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmSize:"))?;
    let kibibytes: u64 = line.trim().strip_suffix(" kB")?.parse().ok()?;
    Some(kibibytes << 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_size_of_a_process_is_read() {
        assert_eq!(size_in("Name:\tx\nVmPeak:\t  9 kB\nVmSize:\t  12 kB\n"), Some(12_288));
        assert_eq!(size_in("Name:\tx\n"), None);
    }
}
