//! What was received and is not read yet.

/// A buffer that has grown beyond this many bytes gives them back when it is empty: a connection that is idle should
/// not keep what a busy one needed.
const KEPT_CAPACITY: usize = 2048;

/// Bytes in one piece, the next one to be read first.
///
/// Reading moves a mark and copies nothing; the bytes before the mark are given up when room is needed and they are at
/// least as many as those behind it, so that every byte is moved once at most on the average.
#[derive(Debug, Default)]
pub struct ReadBuffer {
    bytes: Vec<u8>,
    /// How many bytes are read already; all of them only if there are none.
    read: usize,
}

impl ReadBuffer {
    /// How many bytes there are to read.
    #[inline]
    pub fn len(&self) -> usize {
        self.bytes.len() - self.read
    }

    /// Whether there is nothing to read.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// What there is to read.
    #[inline]
    pub fn as_slice(&self) -> &[u8] {
        &self.bytes[self.read..]
    }

    /// Puts `data` behind what there is.
    #[inline]
    pub fn push(&mut self, data: &[u8]) {
        if self.read != 0 && self.bytes.capacity() - self.bytes.len() < data.len() {
            self.make_room();
        }
        self.bytes.extend_from_slice(data);
    }

    #[cold]
    fn make_room(&mut self) {
        if self.read >= self.len() {
            self.bytes.drain(..self.read);
            self.read = 0;
        }
    }

    /// Takes note that `count` bytes were read.
    ///
    /// # Panics
    ///
    /// If there are less.
    #[inline]
    pub fn consume(&mut self, count: usize) {
        assert!(count <= self.len(), "more was read than there was");
        self.read += count;
        if self.read == self.bytes.len() {
            self.clear();
        }
    }

    /// Forgets what there is.
    #[inline]
    pub fn clear(&mut self) {
        self.read = 0;
        if self.bytes.capacity() > KEPT_CAPACITY {
            self.bytes = Vec::new();
        } else {
            self.bytes.clear();
        }
    }

    /// Puts `data` before what there is: it was read, and is to be read again.
    pub fn unread(&mut self, mut data: Vec<u8>) {
        data.extend_from_slice(self.as_slice());
        *self = Self { bytes: data, read: 0 };
    }
}

impl From<Vec<u8>> for ReadBuffer {
    fn from(bytes: Vec<u8>) -> Self {
        Self { bytes, read: 0 }
    }
}
