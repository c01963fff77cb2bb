//! What ends a message, and the search for it in bytes that come in pieces.

use memchr::{memchr, memmem};

/// The byte strings of which any one ends a message. None of them is empty, and there is at least one.
#[derive(Debug)]
pub struct Separators(Kind);

#[derive(Debug)]
enum Kind {
    /// The most common: a newline.
    Byte(u8),
    One(Box<[u8]>),
    /// In the order of their lengths.
    Several(Box<[Box<[u8]>]>),
}

/// Where a message ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Found {
    /// Where the separator begins: the length of the message without it.
    pub start: usize,
    /// Where the separator ends: the length of the message with it.
    pub end: usize,
}

impl Separators {
    /// One byte.
    pub const fn byte(separator: u8) -> Self {
        Self(Kind::Byte(separator))
    }

    /// One byte string; `None` if it is empty.
    pub fn one(separator: &[u8]) -> Option<Self> {
        match separator {
            [] => None,
            [byte] => Some(Self::byte(*byte)),
            _ => Some(Self(Kind::One(separator.into()))),
        }
    }

    /// Any of several byte strings; `None` if there is none, or one of them is empty.
    ///
    /// Of two that end at the same place the shorter one counts.
    pub fn any(mut separators: Vec<Box<[u8]>>) -> Option<Self> {
        separators.sort_by_key(|separator| separator.len());
        match &separators[..] {
            [] => None,
            [shortest, ..] if shortest.is_empty() => None,
            [only] => Self::one(only),
            _ => Some(Self(Kind::Several(separators.into_boxed_slice()))),
        }
    }

    /// The length of the shortest.
    fn min_len(&self) -> usize {
        match &self.0 {
            Kind::Byte(_) => 1,
            Kind::One(separator) => separator.len(),
            Kind::Several(separators) => separators.first().map_or(1, |separator| separator.len()),
        }
    }

    /// The length of the longest.
    fn max_len(&self) -> usize {
        match &self.0 {
            Kind::Byte(_) => 1,
            Kind::One(separator) => separator.len(),
            Kind::Several(separators) => separators.last().map_or(1, |separator| separator.len()),
        }
    }

    /// The separator that ends first, of those that begin at `from` or later.
    fn find(&self, bytes: &[u8], from: usize) -> Option<Found> {
        let rest = bytes.get(from..)?;
        let at = |start: usize, length: usize| Found { start: from + start, end: from + start + length };
        match &self.0 {
            Kind::Byte(separator) => memchr(*separator, rest).map(|start| at(start, 1)),
            Kind::One(separator) => find_one(separator, rest).map(|start| at(start, separator.len())),
            Kind::Several(separators) => {
                let mut first: Option<Found> = None;
                for separator in separators {
                    // A later one counts only if it ends before the first does.
                    let rest = first.map_or(rest, |first| &rest[..first.end - from - 1]);
                    first = memmem::find(rest, separator).map(|start| at(start, separator.len())).or(first);
                }
                first
            }
        }
    }
}

/// How often the last byte of a separator is looked for before the separator is.
const TRIES: usize = 3;

/// Where `separator`, of two bytes or more, begins in `bytes`.
///
/// It mostly is where its last byte is; to prepare the search for a string costs more than to look there. Where the
/// byte is often without the others, the string is searched for, in a time that does not depend on them.
fn find_one(separator: &[u8], bytes: &[u8]) -> Option<usize> {
    let (last, head) = separator.split_last()?;
    let mut at = head.len();
    for _ in 0..TRIES {
        let end = at + memchr(*last, bytes.get(at..)?)?;
        if bytes[..end].ends_with(head) {
            return Some(end - head.len());
        }
        at = end + 1;
    }
    let from = at - head.len();
    memmem::find(bytes.get(from..)?, separator).map(|start| from + start)
}

/// A search that goes on where it stopped when there are more bytes: no byte is looked at twice but the last few, which
/// can be the beginning of a separator.
///
/// # Examples
///
/// ```
/// use ferrio::stream::{ReadBuffer, Search, Separators};
///
/// let newline = Separators::byte(b'\n');
/// let (mut received, mut search) = (ReadBuffer::default(), Search::default());
/// received.push(b"a li");
/// assert!(search.find(&newline, received.as_slice()).is_none());
/// received.push(b"ne\nand more");
/// let found = search.find(&newline, received.as_slice()).expect("a line");
/// assert_eq!(&received.as_slice()[..found.end], b"a line\n");
/// received.consume(found.end);
/// ```
#[derive(Clone, Copy, Debug, Default)]
pub struct Search {
    /// No separator begins before this place.
    from: usize,
}

impl Search {
    /// Looks for the end of a message in `bytes`, which are those of the last time with more behind them.
    #[inline]
    pub fn find(&mut self, separators: &Separators, bytes: &[u8]) -> Option<Found> {
        if bytes.len().saturating_sub(self.from) < separators.min_len() {
            return None;
        }
        let found = separators.find(bytes, self.from);
        if found.is_none() {
            self.from = (bytes.len() + 1).saturating_sub(separators.max_len());
        }
        found
    }

    /// As [`find`](Self::find) for one byte, which begins where it is found.
    #[inline]
    pub fn find_byte(&mut self, separator: u8, bytes: &[u8]) -> Option<usize> {
        let found = memchr(separator, bytes.get(self.from..)?);
        if found.is_none() {
            self.from = bytes.len();
        }
        found.map(|start| self.from + start)
    }

    /// How many bytes are known to belong to the message, however it ends.
    #[inline]
    pub fn searched(self) -> usize {
        self.from
    }
}
