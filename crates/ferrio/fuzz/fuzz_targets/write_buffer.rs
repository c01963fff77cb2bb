//! A `WriteBuffer` is a queue of bytes, of which the kernel takes as many as it likes.

#![no_main]

use arbitrary::Arbitrary;
use ferrio::stream::WriteBuffer;
use libfuzzer_sys::fuzz_target;

#[derive(Arbitrary, Debug)]
enum Step {
    Push(Vec<u8>),
    /// Into an empty buffer, so many bytes of it sent already.
    PushRest(Vec<u8>, u8),
    /// The kernel takes this share of what it is offered.
    Send(u8),
    Take,
}

fuzz_target!(|steps: Vec<Step>| {
    let mut buffer = WriteBuffer::default();
    let mut model: Vec<u8> = Vec::new();
    for step in steps {
        match step {
            Step::Push(chunk) => {
                model.extend(&chunk);
                buffer.push(chunk);
            }
            Step::PushRest(chunk, share) if model.is_empty() => {
                let sent = chunk.len() * usize::from(share) / 255;
                model.extend(&chunk[sent..]);
                buffer.push_rest(chunk, sent);
            }
            Step::PushRest(..) => {}
            Step::Send(share) => {
                let offered: Vec<u8> = buffer.slices().iter().flat_map(|slice| slice.iter().copied()).collect();
                assert!(model.starts_with(&offered));
                assert_eq!(offered.is_empty(), model.is_empty());
                let sent = offered.len() * usize::from(share) / 255;
                buffer.advance(sent);
                model.drain(..sent);
            }
            Step::Take => {
                drop(buffer.take());
                model.clear();
            }
        }
        assert_eq!(buffer.len(), model.len());
        assert_eq!(buffer.is_empty(), model.is_empty());
    }
});
