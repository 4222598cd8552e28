//! Lists a page at a time: which part is wanted, and what is answered.

/// The part of a list that is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    /// Entries that are passed over.
    pub offset: usize,
    /// Entries at most.
    pub limit: usize,
}

impl Window {
    /// The whole list.
    pub const ALL: Self = Self { offset: 0, limit: usize::MAX };
    /// Nothing of it, for who only counts.
    pub const NONE: Self = Self { offset: 0, limit: 0 };

    /// The number of the first entry behind it.
    pub fn end(self) -> usize {
        self.offset.saturating_add(self.limit)
    }

    /// The entry of this number, from 0, is inside.
    pub fn holds(self, number: usize) -> bool {
        (self.offset..self.end()).contains(&number)
    }

    /// What of a list is inside.
    pub fn of<T>(self, list: impl IntoIterator<Item = T>) -> impl Iterator<Item = T> {
        list.into_iter().skip(self.offset).take(self.limit)
    }
}

/// A page of a list, and how many entries the list has.
#[derive(Clone, Debug)]
pub struct Page<T> {
    /// The entries of the page.
    pub entries: Vec<T>,
    /// Those of the whole list.
    pub total: usize,
}

impl<T> Page<T> {
    /// A page of a list that is at hand.
    pub fn of(list: Vec<T>, window: Window) -> Self {
        let total = list.len();
        Self { entries: window.of(list).collect(), total }
    }

    /// The same page, said otherwise.
    pub fn map<U>(self, say: impl FnMut(T) -> U) -> Page<U> {
        Page { entries: self.entries.into_iter().map(say).collect(), total: self.total }
    }
}
