//! How many connections the process has file descriptors for (RS-64).

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Most connections at a time, whatever the system allows.
const MOST: u64 = 10_000;
/// Descriptors kept for upstream connections, the database and the process itself.
const OURS: u64 = 512;
/// Descriptors of one connection: its socket and the file being sent.
const EACH: u64 = 2;

/// Raises the soft limit of descriptors as far as the process may, and says how many connections fit below it.
pub(super) fn connections() -> usize {
    let limit = getrlimit(Resource::Nofile);
    let wanted = limit.maximum.unwrap_or(u64::MAX).min(MOST * EACH + OURS);
    let allowed = match limit.current {
        Some(current) if current < wanted => {
            let raised = Rlimit { current: Some(wanted), maximum: limit.maximum };
            if setrlimit(Resource::Nofile, raised).is_ok() { wanted } else { current }
        }
        _ => wanted,
    };
    fitting(allowed)
}

fn fitting(descriptors: u64) -> usize {
    let fit = descriptors.saturating_sub(OURS).max(OURS / 4) / EACH;
    usize::try_from(fit.min(MOST)).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rs_64_connections_leave_descriptors_for_the_rest() {
        assert_eq!(fitting(u64::MAX), 10_000);
        assert_eq!(fitting(4096), 1792);
        assert_eq!(fitting(256), 64, "a tiny limit still serves someone");
    }
}
