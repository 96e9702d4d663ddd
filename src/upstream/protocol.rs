//! The part of an exchange that needs no socket: ids, questions, and which reply is whose.

use crate::dns::header::HEADER_LEN;
use crate::dns::{Header, Rcode, name};
use smallvec::SmallVec;
use std::collections::HashMap;
use std::collections::hash_map::Entry;

/// What a received message is to a query that was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Its reply: the question is that of the query, octet for octet.
    Reply,
    /// The question is that of the query but for the case of its letters.
    OtherCase,
    /// An error without any question: what servers send that did not read so far, or did not want
    /// to. It can only say that this server does not answer ([`with_question`]).
    BareError,
    /// It carries the query's id, but is no reply to its question (FW-17).
    OtherQuestion,
    /// Nothing to do with it: another id, or no message at all (FW-16).
    Stray,
}

/// What `message` is to the query with this id and question (name, type and class in wire form).
///
/// A compressed question is another one, since a question has nothing before it to point to.
pub fn judge(id: u16, question: &[u8], message: &[u8]) -> Verdict {
    let header = match Header::read(message) {
        Ok(header) if header.id == id => header,
        _ => return Verdict::Stray,
    };
    if header.has(Header::QR) && header.counts == [0; 4] && is_failure(header.rcode()) {
        return Verdict::BareError;
    }
    let theirs = message[HEADER_LEN..].get(..question.len());
    let (Some(theirs), true, 1) = (theirs, header.has(Header::QR), header.counts[0]) else {
        return Verdict::OtherQuestion;
    };
    if theirs == question {
        Verdict::Reply
    } else if same_but_for_case(question, theirs) {
        Verdict::OtherCase
    } else {
        Verdict::OtherQuestion
    }
}

/// Whether the response code says that the server failed or refused, and nothing of the name.
const fn is_failure(rcode: Rcode) -> bool {
    matches!(
        rcode,
        Rcode::FORMERR | Rcode::SERVFAIL | Rcode::NOTIMP | Rcode::REFUSED
    )
}

/// The header of a message without a question, and this question.
pub fn with_question(message: &[u8], question: &[u8]) -> Vec<u8> {
    let mut header = Header::read(message).unwrap_or_default();
    header.counts = [1, 0, 0, 0];
    [&header.to_wire(), question].concat()
}

fn same_but_for_case(question: &[u8], theirs: &[u8]) -> bool {
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

/// The header and question of `message` with TC set, and no record.
pub fn truncated(message: &[u8]) -> Vec<u8> {
    let mut header = Header::read(message).unwrap_or_default();
    header.bits |= Header::TC;
    header.counts = [1, 0, 0, 0];
    let mut empty = header.to_wire().to_vec();
    // A reply is believed only if its question is that of the query, so that there is one.
    empty.extend_from_slice(question(message).unwrap_or_default());
    empty
}

/// The queries that wait for a reply on one socket.
///
/// Invariant: never more than `limit` of them, each under an id of its own.
#[derive(Debug)]
pub struct InFlight<W> {
    waiting: HashMap<u16, Waiting<W>, foldhash::fast::RandomState>,
    limit: usize,
    /// The last ids that were answered or given up, the oldest of them at `oldest`: a reply that
    /// comes late or twice is no forgery.
    spent: Vec<u16>,
    oldest: usize,
}

#[derive(Debug)]
struct Waiting<W> {
    question: SmallVec<[u8; 64]>,
    waiter: W,
    /// Whether the reply has to keep the case of the question's letters.
    exact: bool,
    /// Whether a message with the right id and another question came.
    other_question: bool,
}

/// Whom a received message is for.
#[derive(Debug, PartialEq, Eq)]
pub enum Arrival<W> {
    /// It is the reply to this waiter's query.
    Reply(W),
    /// It is an error for this waiter's query, here with the question that it came without.
    BareError(W, Vec<u8>),
    /// It is the reply to this waiter's query but for the case of the question's letters.
    OtherCase(W),
    /// It carries the id of a query, but answers another question. The query goes on waiting:
    /// a forger who guesses the id can send this ([`InFlight::saw_other_question`]).
    OtherQuestion,
    /// It carries the id of a query that was answered or given up a short time ago.
    Late,
    /// It is nobody's.
    Stray,
}

impl<W> InFlight<W> {
    /// Room for `limit` queries; the fewer there are, the fewer ids a forger can guess.
    pub fn new(limit: usize) -> Self {
        Self {
            waiting: HashMap::default(),
            limit,
            spent: Vec::new(),
            oldest: 0,
        }
    }

    /// Gives `query` an id from `ids` that no other query in flight has, writes it into the
    /// message, and remembers the waiter. With `exact`, only a reply that keeps the case of the
    /// question is its reply. `None` if there is no room, or no question.
    pub fn insert(
        &mut self,
        query: &mut [u8],
        exact: bool,
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
                slot.insert(Waiting {
                    question,
                    waiter,
                    exact,
                    other_question: false,
                });
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
        let id = header.id;
        let Some(waiting) = self.waiting.get_mut(&id) else {
            return if self.spent.contains(&id) {
                Arrival::Late
            } else {
                Arrival::Stray
            };
        };
        let arrival: fn(W) -> Arrival<W> = match judge(id, &waiting.question, message) {
            Verdict::Reply => Arrival::Reply,
            Verdict::OtherCase if waiting.exact => Arrival::OtherCase,
            Verdict::OtherCase => Arrival::Reply,
            Verdict::BareError => {
                let whole = with_question(message, &waiting.question);
                let waiter = self.remove(id);
                return waiter.map_or(Arrival::Stray, |waiter| Arrival::BareError(waiter, whole));
            }
            Verdict::OtherQuestion => {
                waiting.other_question = true;
                return Arrival::OtherQuestion;
            }
            Verdict::Stray => return Arrival::Stray,
        };
        self.remove(id).map_or(Arrival::Stray, arrival)
    }

    /// Whether a message with the id of this query and another question came.
    pub fn saw_other_question(&self, id: u16) -> bool {
        self.waiting
            .get(&id)
            .is_some_and(|waiting| waiting.other_question)
    }

    /// Forgets the query with this id.
    pub fn remove(&mut self, id: u16) -> Option<W> {
        let waiting = self.waiting.remove(&id)?;
        if self.spent.len() < self.limit {
            self.spent.push(id);
        } else if let Some(oldest) = self.spent.get_mut(self.oldest) {
            *oldest = id;
            self.oldest = (self.oldest + 1) % self.limit;
        }
        Some(waiting.waiter)
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
            Verdict::OtherCase
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
    fn an_error_needs_no_question() {
        let asked = question(QUERY).unwrap();
        for (rcode, verdict) in [
            (Rcode::NOERROR, Verdict::OtherQuestion),
            (Rcode::FORMERR, Verdict::BareError),
            (Rcode::SERVFAIL, Verdict::BareError),
            (Rcode::NXDOMAIN, Verdict::OtherQuestion),
            (Rcode::NOTIMP, Verdict::BareError),
            (Rcode::REFUSED, Verdict::BareError),
        ] {
            let header = |bits| Header {
                id: 0x1234,
                bits: bits | rcode.0,
                counts: [0; 4],
            };
            let bare = header(Header::QR).to_wire();
            assert_eq!(judge(0x1234, asked, &bare), verdict, "{rcode}");
            assert_eq!(judge(0x1235, asked, &bare), Verdict::Stray);
            let no_reply = header(0).to_wire();
            assert_eq!(judge(0x1234, asked, &no_reply), Verdict::OtherQuestion);
        }
        let mut flight = InFlight::new(2);
        flight.insert(&mut QUERY.to_vec(), true, 'a', || 7);
        let bare = b"\0\x07\x80\x05\0\0\0\0\0\0\0\0";
        let mut whole = b"\0\x07\x80\x05\0\x01\0\0\0\0\0\0".to_vec();
        whole.extend_from_slice(asked);
        assert_eq!(flight.arrive(bare), Arrival::BareError('a', whole));
        assert!(flight.is_empty());
    }

    #[test]
    fn ids_in_flight_are_not_given_twice() {
        let mut flight = InFlight::new(2);
        let mut query = QUERY.to_vec();
        let mut ids = [7, 7, 9].into_iter();
        let mut next = || ids.next().unwrap();
        assert_eq!(flight.insert(&mut query, true, 'a', &mut next), Some(7));
        assert_eq!(flight.insert(&mut query, true, 'b', &mut next), Some(9));
        assert_eq!(query[..2], [0, 9]);
        assert_eq!(flight.insert(&mut query, true, 'c', || 1), None, "no room");
        let mut answer = reply();
        assert_eq!(flight.arrive(&answer), Arrival::Stray);
        set_id(&mut answer, 7);
        assert_eq!(flight.arrive(&answer), Arrival::Reply('a'));
        assert_eq!(flight.arrive(&answer), Arrival::Late, "answered once");
        assert_eq!(flight.remove(9), Some('b'));
        assert!(flight.is_empty());
    }

    #[test]
    fn another_question_does_not_end_the_wait_and_another_case_does() {
        let mut flight = InFlight::new(4);
        let mut query = QUERY.to_vec();
        flight.insert(&mut query, true, 'a', || 7);
        let mut forged = reply();
        set_id(&mut forged, 7);
        forged[16] = b'x';
        assert!(!flight.saw_other_question(7));
        assert_eq!(flight.arrive(&forged), Arrival::OtherQuestion);
        assert!(flight.saw_other_question(7));
        let mut lower = reply().to_ascii_lowercase();
        set_id(&mut lower, 7);
        assert_eq!(flight.arrive(&lower), Arrival::OtherCase('a'));
        flight.insert(&mut query, false, 'b', || 7);
        assert_eq!(flight.arrive(&lower), Arrival::Reply('b'));
    }

    #[test]
    fn ids_are_remembered_for_a_while() {
        let mut flight = InFlight::new(2);
        let mut query = QUERY.to_vec();
        for id in [1, 2, 3] {
            flight.insert(&mut query, true, (), || id);
            flight.remove(id);
        }
        let mut late = reply();
        for (id, expected) in [(1, Arrival::Stray), (2, Arrival::Late), (3, Arrival::Late)] {
            set_id(&mut late, id);
            assert_eq!(flight.arrive(&late), expected);
        }
    }

    proptest! {
        #[test]
        fn arbitrary_octets_are_no_reply(message in proptest::collection::vec(any::<u8>(), 0..600)) {
            let mut flight = InFlight::new(8);
            let mut query = QUERY.to_vec();
            let id = flight.insert(&mut query, true, (), rand::random).unwrap();
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
            prop_assume!(before != to);
            message[at] = to;
            let verdict = judge(0x1234, question(QUERY).unwrap(), &message);
            let letter = at < 25 && before.eq_ignore_ascii_case(&to);
            let expected = if letter { Verdict::OtherCase } else { Verdict::OtherQuestion };
            prop_assert_eq!(verdict, expected);
        }
    }
}
