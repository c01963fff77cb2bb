//! What waits to be sent.

use std::collections::VecDeque;
use std::io::IoSlice;
use std::ops::Deref;

use smallvec::SmallVec;

/// How many chunks go out in one system call: the kernel's limit.
pub const MAX_SLICES: usize = 1024;

/// A queue that has grown beyond this many places gives them back when it is empty.
const KEPT_CAPACITY: usize = 32;

/// Chunks in the order in which they are to be sent, the first of them possibly sent in part.
///
/// Chunks are kept as they are given, so a `B` that refers to memory elsewhere is never copied. No chunk is empty: an
/// empty one could never be sent, and would keep what comes behind it from being told as sent.
///
/// # Examples
///
/// ```
/// use ferrio::stream::WriteBuffer;
///
/// let mut waiting = WriteBuffer::default();
/// waiting.push("hello, ");
/// waiting.push("world");
/// assert_eq!((waiting.len(), waiting.slices().len()), (12, 2));
/// // What a system call has taken.
/// waiting.advance(9);
/// assert_eq!(&*waiting.slices()[0], b"rld");
/// ```
#[derive(Debug)]
pub struct WriteBuffer<B> {
    chunks: VecDeque<B>,
    /// How much of the first chunk is sent; always less than its length.
    sent: usize,
    /// How many bytes are left, over all chunks.
    size: usize,
}

impl<B> Default for WriteBuffer<B> {
    fn default() -> Self {
        Self { chunks: VecDeque::new(), sent: 0, size: 0 }
    }
}

impl<B: AsRef<[u8]>> WriteBuffer<B> {
    /// How many bytes wait.
    #[inline]
    pub fn len(&self) -> usize {
        self.size
    }

    /// Whether nothing waits.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.size == 0
    }

    /// Puts `chunk` behind what waits. An empty one is dropped.
    pub fn push(&mut self, chunk: B) {
        let length = chunk.as_ref().len();
        if length != 0 {
            self.size += length;
            self.chunks.push_back(chunk);
        }
    }

    /// Puts `chunk`, of which the first `sent` bytes are sent already, into an empty buffer.
    ///
    /// # Panics
    ///
    /// In debug builds, if something waits already.
    pub fn push_rest(&mut self, chunk: B, sent: usize) {
        debug_assert!(self.is_empty(), "only the first chunk can be sent in part");
        if chunk.as_ref().len() > sent {
            self.push(chunk);
            self.sent = sent;
            self.size -= sent;
        }
    }

    /// What one system call should send: the first [`MAX_SLICES`] chunks.
    pub fn slices(&self) -> impl Deref<Target = [IoSlice<'_>]> {
        let mut slices: SmallVec<[IoSlice<'_>; 16]> =
            self.chunks.iter().take(MAX_SLICES).map(|chunk| IoSlice::new(chunk.as_ref())).collect();
        if let Some(first) = slices.first_mut() {
            first.advance(self.sent);
        }
        slices
    }

    /// Takes note that the next `count` bytes are sent, and drops the chunks that are sent whole.
    ///
    /// # Panics
    ///
    /// In debug builds, if less than that was waiting.
    pub fn advance(&mut self, count: usize) {
        debug_assert!(count <= self.size, "more was sent than there was");
        self.size = self.size.saturating_sub(count);
        let mut sent = self.sent + count;
        while let Some(first) = self.chunks.front() {
            let length = first.as_ref().len();
            if sent < length {
                break;
            }
            sent -= length;
            self.chunks.pop_front();
        }
        self.sent = if self.chunks.is_empty() { 0 } else { sent };
        if self.chunks.is_empty() && self.chunks.capacity() > KEPT_CAPACITY {
            self.chunks = VecDeque::new();
        }
    }

    /// Forgets what waits, and returns it for the caller to drop.
    pub fn take(&mut self) -> impl Iterator<Item = B> + use<B> {
        (self.sent, self.size) = (0, 0);
        std::mem::take(&mut self.chunks).into_iter()
    }
}
