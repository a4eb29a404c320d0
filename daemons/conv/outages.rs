//! What is said of a source that has no reading: once when it begins, once when it is over, and never without end.
#![forbid(unsafe_code)]

use ipc_pipeline::daemon::Said;

/// So many outages are said within [`WINDOW_NS`]; the others are only counted.
const SAID_MAX: u32 = 10;
const WINDOW_NS: u64 = 600_000_000_000;

/// The outages of a source.
#[derive(Default)]
pub struct Outages {
    present: Said,
    /// Was the present one said?
    told: bool,
    window_ns: Option<u64>,
    said: u32,
}

impl Outages {
    /// There is no reading, for this reason; `grid`: there are ticks, which pass. What to say of it, if that is news.
    pub fn begins(&mut self, why: &str, grid: bool, now_ns: u64) -> Option<String> {
        if !self.present.is_new(why) {
            return None;
        }
        if now_ns.saturating_sub(*self.window_ns.get_or_insert(now_ns)) >= WINDOW_NS {
            (self.window_ns, self.said) = (Some(now_ns), 0);
        }
        self.said += 1;
        self.told = self.said <= SAID_MAX;
        let rest = if self.said == SAID_MAX { "; further ones are not said for some minutes" } else { "" };
        let ticks = if grid { "its ticks are counted as unread" } else { "waiting" };
        self.told.then(|| format!("{why}; {ticks} until it is back{rest}"))
    }

    /// There is a reading. True: that is news.
    pub fn end(&mut self) -> bool {
        self.present.is_over() && self.told
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_outage_is_said_once() {
        let mut outages = Outages::default();
        assert!(!outages.end());
        let counted = "a; its ticks are counted as unread until it is back";
        assert_eq!(outages.begins("a", true, 1).as_deref(), Some(counted));
        assert_eq!(outages.begins("a", true, 2), None);
        assert_eq!(outages.begins("b", false, 3).as_deref(), Some("b; waiting until it is back"));
        assert!(outages.end() && !outages.end());
        assert!(outages.begins("b", true, 4).is_some());
    }

    #[test]
    fn one_that_comes_and_goes_is_not_said_for_ever() {
        let mut outages = Outages::default();
        let mut said = 0;
        for tick in 0..1_000_000 {
            said += u32::from(outages.begins("a", true, tick * 1_000_000).is_some());
            said += u32::from(outages.end());
        }
        assert_eq!(said, 2 * 2 * SAID_MAX); // 1000 s are two windows
    }
}
