//! The spelling of names as a secret (draft-vixie-dnsext-dns0x20, RFC 5452 §9).
//!
//! A query goes out over UDP with the case of each letter of its name chosen at random, and a reply
//! counts only if it repeats that: a bit for each letter that a forger has to guess besides id and
//! port. What is given back is spelled as it was asked. An upstream that answers in a case of its own
//! is found out ([`Spelling`]) and asked without.

use super::protocol;
use crate::dns::header::HEADER_LEN;
use crate::dns::{Header, Records};
use crate::limits::UPSTREAM_CASE_STRIKES;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::SeqCst};
use std::time::Duration;
use tokio::time::Instant;

/// How long an upstream that does not keep case is asked in plain case.
const PLAIN: Duration = Duration::from_secs(3600);

/// Which letters of a name change their case; applied twice, it changes nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Flips([u64; 4]);

impl Flips {
    /// Random ones for `query`, from a CSPRNG. `None` where the message must stay as it is: it
    /// has other records than an OPT, and one of them may sign it.
    pub fn for_query(query: &[u8]) -> Option<Self> {
        let [1, 0, 0, 0 | 1] = Header::read(query).ok()?.counts else {
            return None;
        };
        let len = protocol::question(query)?.len();
        let mut flips = [0; 4];
        for word in flips.iter_mut().take(len.div_ceil(64)) {
            *word = rand::random();
        }
        Some(Self(flips))
    }

    /// Changes the question of `message`.
    pub fn apply(self, message: &mut [u8]) {
        let Some(len) = protocol::question(message).map(<[u8]>::len) else {
            return;
        };
        self.change(&mut message[HEADER_LEN..HEADER_LEN + len - 4], 0);
    }

    /// Changes a part of the name, from its octet `at` on. Length octets are no letters.
    fn change(self, part: &mut [u8], at: usize) {
        for (octet, at) in part.iter_mut().zip(at..) {
            let word = self.0.get(at / 64).copied().unwrap_or_default();
            if octet.is_ascii_alphabetic() && word >> (at % 64) & 1 == 1 {
                *octet ^= 0x20;
            }
        }
    }

    /// Gives `reply`, whose question is spelled as it was sent, the spelling of before: in the
    /// question, and with it in all names that point there, and in owners that the upstream spelled
    /// out in full.
    pub fn restore(self, reply: &mut [u8]) {
        let Some(len) = protocol::question(reply).map(<[u8]>::len) else {
            return;
        };
        let mut owners: smallvec::SmallVec<[(usize, usize); 8]> = smallvec::SmallVec::new();
        let sent = &reply[HEADER_LEN..HEADER_LEN + len - 4];
        for record in Records::new(reply)
            .into_iter()
            .flatten()
            .map_while(Result::ok)
        {
            let owner = &reply[record.start..record.fixed];
            // Not in full but for the end: `www` and a pointer to the end of the question.
            let (spelled, rest) = match owner {
                [spelled @ .., high @ 0xc0..=0xff, low] => {
                    let target = usize::from(high & 0x3f) << 8 | usize::from(*low);
                    (spelled, target.checked_sub(HEADER_LEN))
                }
                [spelled @ .., _] => (spelled, Some(sent.len() - 1)),
                [] => continue,
            };
            let from = rest.and_then(|rest| rest.checked_sub(spelled.len()));
            if let Some(from) = from
                && !spelled.is_empty()
                && sent.get(from..from + spelled.len()) == Some(spelled)
            {
                owners.push((record.start, from));
            }
        }
        for (start, from) in owners {
            let end = spelled_end(reply, start);
            self.change(&mut reply[start..end], from);
        }
        self.apply(reply);
    }
}

/// Where the labels of the name at `at` end that are spelled out.
fn spelled_end(message: &[u8], at: usize) -> usize {
    let mut end = at;
    while let Some(&len @ 1..=63) = message.get(end) {
        end += usize::from(len) + 1;
    }
    end
}

/// What is known of how an upstream treats case.
#[derive(Debug)]
pub struct Spelling {
    keep: bool,
    born: Instant,
    /// Replies in another case since the last one that kept it.
    strikes: AtomicU32,
    /// Until then, in milliseconds since `born`, names go out in plain case.
    plain_until: AtomicU64,
}

impl Spelling {
    /// Nothing is known; with `keep`, case is never changed.
    pub fn new(keep: bool) -> Self {
        Self {
            keep,
            born: Instant::now(),
            strikes: AtomicU32::new(0),
            plain_until: AtomicU64::new(0),
        }
    }

    /// Whether names go out in random case.
    pub fn is_random(&self) -> bool {
        let until = self.plain_until.load(SeqCst);
        !self.keep && (until == 0 || self.now() >= until)
    }

    /// A reply kept the case.
    pub fn kept(&self) {
        // Nothing is written as long as all is well.
        if self.strikes.load(SeqCst) != 0 {
            self.strikes.store(0, SeqCst);
        }
    }

    /// The upstream answered in another case, and then the same question in plain case. Whether it
    /// is taken from now on as one that does not keep case.
    pub fn ignored(&self) -> bool {
        if self.strikes.fetch_add(1, SeqCst) + 1 < UPSTREAM_CASE_STRIKES {
            return false;
        }
        self.strikes.store(0, SeqCst);
        let until = self.now() + PLAIN.as_millis() as u64;
        self.plain_until.swap(until, SeqCst) <= self.now()
    }

    fn now(&self) -> u64 {
        // Five hundred million years.
        self.born.elapsed().as_millis() as u64
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::dns::{Class, OwnedQuery, RecordType, Zone};

    fn query(name: &str) -> Vec<u8> {
        let name = Zone::from_text(name).unwrap();
        let query = OwnedQuery::ask(name.wire(), RecordType::A, Class::IN, true);
        query.view().packet().to_vec()
    }

    #[test]
    fn letters_change_and_nothing_else() {
        let original = query(
            "www-01.a-rather-long-name-that-has-more-than-64-letters.in-all-of-its.labels.example.org",
        );
        let mut seen = std::collections::HashSet::new();
        for _ in 0..100 {
            let mut changed = original.clone();
            let flips = Flips::for_query(&changed).unwrap();
            flips.apply(&mut changed);
            assert!(changed.eq_ignore_ascii_case(&original));
            assert_eq!(changed[changed.len() - 4..], original[original.len() - 4..]);
            seen.insert(changed.clone());
            flips.apply(&mut changed);
            assert_eq!(changed, original);
        }
        assert!(seen.len() > 95, "random");
    }

    #[test]
    fn every_letter_of_the_longest_name_can_change() {
        let name = format!("{}a", "a.".repeat(126));
        let original = query(&name);
        let mut changed = original.clone();
        for _ in 0..64 {
            let mut once = original.clone();
            Flips::for_query(&once).unwrap().apply(&mut once);
            let upper = changed.iter_mut().zip(once);
            upper.for_each(|(sum, octet)| {
                if octet.is_ascii_uppercase() {
                    *sum = octet;
                }
            });
        }
        let letters = changed.iter().filter(|octet| **octet == b'A').count();
        assert_eq!(letters, 127);
    }

    #[test]
    fn a_signed_query_stays_as_it_is() {
        let mut signed = query("www.example.org");
        signed[11] = 2;
        assert_eq!(Flips::for_query(&signed), None);
    }

    #[test]
    fn owners_get_their_spelling_back() {
        let original = query("www.example.org");
        let flips = Flips([u64::MAX; 4]);
        let mut reply = original.clone();
        flips.apply(&mut reply);
        reply[2] |= 0x80;
        reply[7] = 5;
        let mut expected = original;
        expected[2] |= 0x80;
        expected[7] = 5;
        let fixed = b"\0\x01\0\x01\0\0\0\x01\0\0";
        for (sent, back) in [
            (&b"\xc0\x0c"[..], &b"\xc0\x0c"[..]),
            (
                b"\x03WWW\x07EXAMPLE\x03ORG\0",
                b"\x03www\x07example\x03org\0",
            ),
            (b"\x07EXAMPLE\xc0\x18", b"\x07example\xc0\x18"),
            // Of its own spelling, or of another name.
            (b"\x07Example\x03ORG\0", b"\x07Example\x03ORG\0"),
            (b"\x03WWW\xc0\x18", b"\x03WWW\xc0\x18"),
        ] {
            reply.extend_from_slice(sent);
            reply.extend_from_slice(fixed);
            expected.extend_from_slice(back);
            expected.extend_from_slice(fixed);
        }
        flips.restore(&mut reply);
        assert_eq!(reply, expected);
    }

    #[tokio::test(start_paused = true)]
    async fn three_in_a_row_are_plain_for_an_hour() {
        let spelling = Spelling::new(false);
        assert!(!spelling.ignored() && !spelling.ignored());
        spelling.kept();
        assert!(!spelling.ignored() && !spelling.ignored());
        assert!(spelling.is_random());
        assert!(spelling.ignored());
        assert!(!spelling.is_random());
        tokio::time::advance(PLAIN).await;
        assert!(spelling.is_random());
        assert!(!Spelling::new(true).is_random());
    }
}
