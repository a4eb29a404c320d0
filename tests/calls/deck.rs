//! The errors to try, like cards: each of a role's calls with each error that it may return, once and lasting; shuffled, so that runs
//! that take only a few come to all of them in the long run.

use crate::harness::Role;
use crate::possible::errors_of;
use fastrand::Rng;
use std::collections::BTreeMap;
use std::fmt;

/// Later calls than this are like those before.
const LAST: u32 = 300;

/// So many calls behind the n-th one are interrupted if it lasts.
const CROWD: u32 = 40;

/// Who has made it is past the loader.
pub const FIRST: &str = "sigaltstack";

/// One error.
#[derive(Clone, Debug, PartialEq)]
pub struct Fault {
    pub role: Role,
    pub call: String,
    pub error: String,
    /// At which call of this kind, by any thread.
    pub n: u32,
    /// At all calls behind it, too.
    pub lasting: bool,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let lasting = if self.lasting { "+" } else { "" };
        write!(f, "{} {} {} {}{lasting}", self.role.name(), self.call, self.error, self.n)
    }
}

impl Fault {
    /// What `T3_FAULT` says, in the words in which a fault is shown.
    pub fn read(text: &str) -> Option<Fault> {
        let [role, call, error, at] = text.split_whitespace().collect::<Vec<_>>().try_into().ok()?;
        let role = Role::ALL.into_iter().find(|r| r.name() == role)?;
        let (n, lasting) = (at.trim_end_matches('+').parse().ok()?, at.ends_with('+'));
        Some(Fault { role, call: call.into(), error: error.into(), n, lasting })
    }

    /// What strace is told.
    pub fn expressions(&self) -> [String; 2] {
        let (call, error, n) = (&self.call, &self.error, self.n);
        let last = match self.lasting {
            false => String::new(),
            true if self.is_of_a_moment() => format!("..{}", n + CROWD),
            true => "+".into(),
        };
        [format!("trace={call},{FIRST}"), format!("inject={call}:error={error}:when={n}{last}")]
    }

    /// Calls that were interrupted, or find that there is nothing now, are made again at once: nobody is interrupted for ever, and
    /// such errors are over after some calls, not after some time.
    pub fn is_of_a_moment(&self) -> bool {
        ["EINTR", "EAGAIN"].contains(&self.error.as_str())
    }

    /// Memory that the allocator or the C library asks for: nobody can refuse it and see the program go on.
    pub fn is_of_memory(&self) -> bool {
        ["mmap", "mprotect", "munmap", "mremap", "madvise"].contains(&self.call.as_str())
    }
}

/// How often a role makes each call.
pub type Counts = BTreeMap<String, u32>;

pub struct Deck {
    /// With the number of such calls that the role makes.
    cards: Vec<(Fault, u32)>,
    next: usize,
}

impl Deck {
    /// Every call must be known to the table. Only faults whose text contains `only`.
    pub fn new(counts: [Counts; 4], only: &str) -> Deck {
        let unknown = |(role, call): (Role, &String)| errors_of(call).is_none().then(|| (role, call.clone()));
        let all =
            || Role::ALL.into_iter().zip(&counts).flat_map(|(r, calls)| calls.iter().map(move |c| (r, c)));
        let unknown: Vec<_> = all().filter_map(|(role, (call, _))| unknown((role, call))).collect();
        assert!(unknown.is_empty(), "possible.rs does not say which errors these calls return: {unknown:?}");
        let mut cards = Vec::new();
        for (role, (call, count)) in all() {
            for error in errors_of(call).unwrap_or_default() {
                for lasting in [false, true] {
                    let (call, error) = (call.clone(), error.to_string());
                    cards.push((Fault { role, call, error, n: 0, lasting }, *count));
                }
            }
        }
        cards.retain(|(fault, _)| fault.to_string().contains(only));
        Deck { cards, next: 0 }
    }

    pub fn len(&self) -> usize {
        self.cards.len()
    }

    /// The next one, at some call. When all were drawn they are shuffled again.
    pub fn draw(&mut self, rng: &mut Rng) -> Fault {
        if self.next.is_multiple_of(self.cards.len()) {
            rng.shuffle(&mut self.cards);
        }
        let (fault, count) = &self.cards[self.next % self.cards.len()];
        self.next += 1;
        Fault { n: rng.u32(1..=(*count).clamp(1, LAST)), ..fault.clone() }
    }
}
