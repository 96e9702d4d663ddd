//! Which answers were right when.
//!
//! A headless service's slice is replaced again and again. Version `v` becomes visible at some moment
//! between the sending of its request and (at the latest) the *bound* after the API server's reply,
//! and version `v - 1` disappears at that moment. So an answer with version `v` is right if the time
//! from its query's sending to its reply's arrival meets
//! `[request of v sent, reply to the request of v + 1 received + bound]`.
//! An answer that is a mixture of versions, or another service's, is never right.
//!
//! The API server may be late to tell of what it has replied to. Where another watch of the same objects
//! has seen version `v + 1` later than the reply to its request was received, the bound is counted from then.

use std::net::Ipv4Addr;
use std::time::Duration;

/// Services whose addresses can be told apart.
pub const SERVICES: u32 = 256;
/// Versions of a service that can be told apart.
pub const VERSIONS: u32 = 65_536;

/// The addresses of a version: 16.0.0.0/4, with service, version and endpoint in it.
pub fn addresses(service: u32, version: u32, endpoints: u32) -> impl Iterator<Item = Ipv4Addr> {
    let base = 0x1000_0000 | (service % SERVICES) << 20 | (version % VERSIONS) << 4;
    (0..endpoints.min(16)).map(move |endpoint| Ipv4Addr::from(base | endpoint))
}

/// Which version of a service the addresses (in ascending order) are, if they are one and whole.
pub fn version(service: u32, endpoints: u32, addresses: &[Ipv4Addr]) -> Option<u32> {
    let first = u32::from(*addresses.first()?);
    let version = first >> 4 & (VERSIONS - 1);
    let whole = self::addresses(service, version, endpoints).eq(addresses.iter().copied());
    whole.then_some(version)
}

/// When the versions of one service were made; times since a common beginning.
#[derive(Debug, Default)]
pub struct History {
    /// For each version: its request sent, the reply received.
    made: Vec<(Duration, Duration)>,
    /// For each version: when another watch has told of it; zero if it has not.
    told: Vec<Duration>,
}

/// What is wrong with an answer, or how it is right.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Verdict {
    /// It was current when the query was sent, or became so meanwhile.
    Right,
    /// It was replaced before the query was sent, at most the bound before.
    Old(Age),
    /// Replaced more than the bound before.
    TooOld(Age),
    /// It was answered before it was asked of the API server.
    FromTheFuture,
}

/// How long before the query was sent an answer was replaced.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Age {
    /// Since the API server's reply.
    pub replied: Duration,
    /// Since the later one of the reply and what another watch has told.
    pub told: Duration,
}

impl History {
    /// Notes that another watch tells of a version; the first time counts.
    pub fn tell(&mut self, version: u32, at: Duration) {
        let version = version as usize;
        if version >= self.told.len() {
            self.told.resize(version + 1, Duration::ZERO);
        }
        if self.told[version].is_zero() {
            self.told[version] = at;
        }
    }

    /// Adds the next version.
    pub fn push(&mut self, sent: Duration, replied: Duration) {
        self.made.push((sent, replied));
    }

    /// The number of the next version.
    pub fn next(&self) -> u32 {
        u32::try_from(self.made.len()).unwrap_or(u32::MAX)
    }

    /// Judges an answer with a version to a query sent and replied to at these times.
    pub fn judge(
        &self,
        version: u32,
        sent: Duration,
        received: Duration,
        bound: Duration,
    ) -> Verdict {
        let version = version as usize;
        // A request that was not replied to before the end may have been carried out all the same.
        match self.made.get(version) {
            Some((begun, _)) if *begun > received => return Verdict::FromTheFuture,
            None if version > self.made.len() => return Verdict::FromTheFuture,
            _ => {}
        }
        match self.made.get(version + 1) {
            Some((_, replied)) if *replied < sent => {
                let told = self.told.get(version + 1).copied().unwrap_or_default();
                let age = Age {
                    replied: sent - *replied,
                    told: sent.saturating_sub(told.max(*replied)),
                };
                match age.told <= bound {
                    true => Verdict::Old(age),
                    false => Verdict::TooOld(age),
                }
            }
            _ => Verdict::Right,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_can_be_told_from_addresses() {
        let of = |service, version| addresses(service, version, 10).collect::<Vec<_>>();
        assert_eq!(version(255, 10, &of(255, 65_535)), Some(65_535));
        assert_eq!(version(3, 10, &of(4, 7)), None, "another service's");
        assert_eq!(version(4, 10, &of(4, 7)[..9]), None, "one is missing");
        let mut mixed = of(4, 7);
        mixed[9] = of(4, 8)[9];
        assert_eq!(version(4, 10, &mixed), None);
        assert_eq!(version(4, 10, &[]), None);
    }

    #[test]
    fn answers_are_right_for_a_time() {
        let ms = Duration::from_millis;
        let mut history = History::default();
        history.push(ms(0), ms(10));
        history.push(ms(100), ms(110));
        let judge =
            |version, sent, received| history.judge(version, ms(sent), ms(received), ms(20));
        assert_eq!(judge(0, 50, 51), Verdict::Right);
        assert_eq!(judge(0, 110, 111), Verdict::Right);
        let age = |replied, told| Age {
            replied: ms(replied),
            told: ms(told),
        };
        assert_eq!(judge(0, 130, 131), Verdict::Old(age(20, 20)));
        assert_eq!(judge(0, 131, 132), Verdict::TooOld(age(21, 21)));
        assert_eq!(judge(1, 98, 99), Verdict::FromTheFuture);
        assert_eq!(judge(1, 98, 100), Verdict::Right);
        assert_eq!(judge(1, 9_000, 9_001), Verdict::Right);
        assert_eq!(
            judge(2, 9_000, 9_001),
            Verdict::Right,
            "asked for, not replied to"
        );
        assert_eq!(judge(3, 9_000, 9_001), Verdict::FromTheFuture);
        let mut told = history;
        told.tell(1, ms(120));
        told.tell(1, ms(500));
        let judge = |sent| told.judge(0, ms(sent), ms(sent + 1), ms(20));
        assert_eq!(judge(115), Verdict::Old(age(5, 0)));
        assert_eq!(judge(140), Verdict::Old(age(30, 20)));
        assert_eq!(judge(141), Verdict::TooOld(age(31, 21)));
    }
}
