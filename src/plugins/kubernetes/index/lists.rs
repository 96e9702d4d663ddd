//! Which objects a list has shown: each object bears the number of the list that it was seen in
//! last, so that a list needs no memory of its own.

use super::super::object::Kind;

/// The lists of each kind.
#[derive(Debug, Default)]
pub(super) struct Lists([List; 4]);

#[derive(Debug, Default)]
struct List {
    number: u32,
    runs: bool,
}

impl Lists {
    /// A list begins.
    pub(super) fn start(&mut self, kind: Kind) {
        let list = &mut self.0[kind as usize];
        list.number = list.number.wrapping_add(1);
        list.runs = true;
    }

    /// What an object bears that is seen now.
    pub(super) fn mark(&self, kind: Kind) -> u32 {
        self.0[kind as usize].number
    }

    /// Whether a list runs: what is told belongs to it, and is no news.
    pub(super) fn runs(&self, kind: Kind) -> bool {
        self.0[kind as usize].runs
    }

    /// The list is complete: its number, if it began.
    pub(super) fn end(&mut self, kind: Kind) -> Option<u32> {
        let list = &mut self.0[kind as usize];
        std::mem::take(&mut list.runs).then_some(list.number)
    }
}
