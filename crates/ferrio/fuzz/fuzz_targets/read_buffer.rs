//! A `ReadBuffer` is a queue of bytes of which some can be put back.

#![no_main]

use arbitrary::Arbitrary;
use ferrio::stream::ReadBuffer;
use libfuzzer_sys::fuzz_target;

#[derive(Arbitrary, Debug)]
enum Step {
    Push(Vec<u8>),
    /// Reads this share of what there is.
    Consume(u8),
    Unread(Vec<u8>),
    Clear,
}

fuzz_target!(|steps: Vec<Step>| {
    let mut buffer = ReadBuffer::default();
    let mut model: Vec<u8> = Vec::new();
    for step in steps {
        match step {
            Step::Push(data) => {
                buffer.push(&data);
                model.extend(&data);
            }
            Step::Consume(share) => {
                let count = model.len() * usize::from(share) / 255;
                buffer.consume(count);
                model.drain(..count);
            }
            Step::Unread(data) => {
                model.splice(..0, data.iter().copied());
                buffer.unread(data);
            }
            Step::Clear => {
                buffer.clear();
                model.clear();
            }
        }
        assert_eq!(buffer.as_slice(), model);
        assert_eq!((buffer.len(), buffer.is_empty()), (model.len(), model.is_empty()));
    }
});
