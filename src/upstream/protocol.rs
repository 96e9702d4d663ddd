//! The part of an exchange that needs no socket: ids, questions, and which reply is whose.

use crate::dns::header::HEADER_LEN;
use crate::dns::{Header, name};
use smallvec::SmallVec;
use std::collections::HashMap;
use std::collections::hash_map::Entry;

/// What a received message is to a query that was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Its reply.
    Reply,
    /// It carries the query's id, but is no reply to its question (FW-17).
    OtherQuestion,
    /// Nothing to do with it: another id, or no message at all (FW-16).
    Stray,
}

/// What `message` is to the query with this id and question (name, type and class in wire form).
///
/// Names are compared without regard to case; a compressed question is not equal, since a question
/// has nothing before it to point to.
pub fn judge(id: u16, question: &[u8], message: &[u8]) -> Verdict {
    match Header::read(message) {
        Ok(header) if header.id == id => {
            let same = header.counts[0] == 1 && same_question(question, &message[HEADER_LEN..]);
            if header.has(Header::QR) && same {
                Verdict::Reply
            } else {
                Verdict::OtherQuestion
            }
        }
        _ => Verdict::Stray,
    }
}

fn same_question(question: &[u8], section: &[u8]) -> bool {
    let Some(theirs) = section.get(..question.len()) else {
        return false;
    };
    let Some((our_name, our_type)) = question.split_last_chunk::<4>() else {
        return false;
    };
    // Length octets are below 64 and no letters: ignoring ASCII case leaves them alone.
    theirs.ends_with(our_type) && theirs[..our_name.len()].eq_ignore_ascii_case(our_name)
}

/// The question of `query`: the octets of its name, type and class. `None` unless there is exactly
/// one.
pub fn question(query: &[u8]) -> Option<&[u8]> {
    let header = Header::read(query).ok()?;
    if header.counts[0] != 1 {
        return None;
    }
    let end = name::skip(query, HEADER_LEN).ok()? + 4;
    query.get(HEADER_LEN..end)
}

/// Writes `id` into a message that has a header.
pub fn set_id(message: &mut [u8], id: u16) {
    if let Some(head) = message.first_chunk_mut::<2>() {
        *head = id.to_be_bytes();
    }
}

/// The queries that wait for a reply on one socket.
///
/// Invariant: never more than `limit` of them, each under an id of its own.
#[derive(Debug)]
pub struct InFlight<W> {
    waiting: HashMap<u16, Waiting<W>, foldhash::fast::RandomState>,
    limit: usize,
}

#[derive(Debug)]
struct Waiting<W> {
    question: SmallVec<[u8; 64]>,
    waiter: W,
}

/// Whom a received message is for.
#[derive(Debug, PartialEq, Eq)]
pub enum Arrival<W> {
    /// It is the reply to this waiter's query.
    Reply(W),
    /// It carries the id of this waiter's query, but answers another question.
    OtherQuestion(W),
    /// It is nobody's.
    Stray,
}

impl<W> InFlight<W> {
    /// Room for `limit` queries; the fewer there are, the fewer ids a forger can guess.
    pub fn new(limit: usize) -> Self {
        Self {
            waiting: HashMap::default(),
            limit,
        }
    }

    /// Gives `query` an id from `ids` that no other query in flight has, writes it into the
    /// message, and remembers the waiter. `None` if there is no room, or no question.
    pub fn insert(
        &mut self,
        query: &mut [u8],
        waiter: W,
        mut ids: impl FnMut() -> u16,
    ) -> Option<u16> {
        if self.waiting.len() >= self.limit {
            return None;
        }
        let question = SmallVec::from_slice(question(query)?);
        // With at most 1 in 16 ids taken, sixteen tries fail once in 2^64 times.
        for _ in 0..16 {
            let id = ids();
            if let Entry::Vacant(slot) = self.waiting.entry(id) {
                slot.insert(Waiting { question, waiter });
                set_id(query, id);
                return Some(id);
            }
        }
        None
    }

    /// Finds whom a received message is for, and forgets the waiter that it is for.
    pub fn arrive(&mut self, message: &[u8]) -> Arrival<W> {
        let Ok(header) = Header::read(message) else {
            return Arrival::Stray;
        };
        let Entry::Occupied(slot) = self.waiting.entry(header.id) else {
            return Arrival::Stray;
        };
        match judge(header.id, &slot.get().question, message) {
            Verdict::Reply => Arrival::Reply(slot.remove().waiter),
            Verdict::OtherQuestion => Arrival::OtherQuestion(slot.remove().waiter),
            Verdict::Stray => Arrival::Stray,
        }
    }

    /// Forgets the query with this id.
    pub fn remove(&mut self, id: u16) -> Option<W> {
        self.waiting.remove(&id).map(|waiting| waiting.waiter)
    }

    /// Forgets all queries.
    pub fn drain(&mut self) -> impl Iterator<Item = W> + '_ {
        self.waiting.drain().map(|(_, waiting)| waiting.waiter)
    }

    /// How many queries wait.
    pub fn len(&self) -> usize {
        self.waiting.len()
    }

    /// Whether no query waits.
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const QUERY: &[u8] = b"\x12\x34\x01\0\0\x01\0\0\0\0\0\0\x03WeB\x07example\0\0\x01\0\x01";

    fn reply() -> Vec<u8> {
        let mut reply = QUERY.to_vec();
        reply[2] |= 0x80;
        reply
    }

    #[test]
    fn a_reply_repeats_id_and_question() {
        let asked = question(QUERY).unwrap();
        assert_eq!(judge(0x1234, asked, &reply()), Verdict::Reply);
        assert_eq!(
            judge(0x1234, asked, &reply().to_ascii_lowercase()),
            Verdict::Reply
        );
        assert_eq!(judge(0x1235, asked, &reply()), Verdict::Stray);
        assert_eq!(judge(0x1234, asked, &reply()[..11]), Verdict::Stray);
        assert_eq!(judge(0x1234, asked, QUERY), Verdict::OtherQuestion);
        for at in [5, 13, 16, 24, 26, 28] {
            let mut other = reply();
            other[at] ^= 1;
            let verdict = judge(0x1234, asked, &other);
            assert_eq!(verdict, Verdict::OtherQuestion, "octet {at}");
        }
        assert_eq!(judge(0x1234, asked, &reply()[..28]), Verdict::OtherQuestion);
    }

    #[test]
    fn ids_in_flight_are_not_given_twice() {
        let mut flight = InFlight::new(2);
        let mut query = QUERY.to_vec();
        let mut ids = [7, 7, 9].into_iter();
        let mut next = || ids.next().unwrap();
        assert_eq!(flight.insert(&mut query, 'a', &mut next), Some(7));
        assert_eq!(flight.insert(&mut query, 'b', &mut next), Some(9));
        assert_eq!(query[..2], [0, 9]);
        assert_eq!(flight.insert(&mut query, 'c', || 1), None, "no room");
        let mut answer = reply();
        assert_eq!(flight.arrive(&answer), Arrival::Stray);
        set_id(&mut answer, 7);
        assert_eq!(flight.arrive(&answer), Arrival::Reply('a'));
        assert_eq!(flight.arrive(&answer), Arrival::Stray, "answered once");
        assert_eq!(flight.remove(9), Some('b'));
        assert!(flight.is_empty());
    }

    proptest! {
        #[test]
        fn arbitrary_octets_are_no_reply(message in proptest::collection::vec(any::<u8>(), 0..600)) {
            let mut flight = InFlight::new(8);
            let mut query = QUERY.to_vec();
            let id = flight.insert(&mut query, (), rand::random).unwrap();
            prop_assert_ne!(judge(id, question(QUERY).unwrap(), &message), Verdict::Reply);
            prop_assert_ne!(flight.arrive(&message), Arrival::Reply(()));
            let _ = question(&message);
        }

        #[test]
        fn the_right_id_alone_is_no_reply(tail in proptest::collection::vec(any::<u8>(), 0..600)) {
            let mut message = vec![0x12, 0x34];
            message.extend(tail);
            prop_assert_ne!(judge(0x1234, question(QUERY).unwrap(), &message), Verdict::Reply);
        }

        #[test]
        fn any_changed_octet_of_the_question_is_noticed(at in 12usize..29, to in any::<u8>()) {
            let mut message = reply();
            let before = message[at];
            prop_assume!(!before.eq_ignore_ascii_case(&to) || (at >= 25 && before != to));
            message[at] = to;
            let verdict = judge(0x1234, question(QUERY).unwrap(), &message);
            prop_assert_eq!(verdict, Verdict::OtherQuestion);
        }
    }
}
