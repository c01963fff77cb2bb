//! The buffers, flow control, the size of reads and separators, each against a model that is too simple to be wrong.

use ferrio::stream::{
    FlowControl, Found, Limits, MAX_SLICES, ReadBuffer, ReadSize, Room, SCRATCH, Search, Separators, WriteBuffer,
};
use proptest::prelude::*;

#[derive(Clone, Debug)]
enum Step {
    /// Write so many bytes behind what waits.
    Push(usize),
    /// Write so many bytes into an empty buffer, of which a part is sent already.
    PushRest(usize, prop::sample::Index),
    /// The kernel takes a part of what was offered to it.
    Send(prop::sample::Index),
    /// Drop everything.
    Take,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        8 => (0..20usize).prop_map(Step::Push),
        2 => (0..20usize, any::<prop::sample::Index>()).prop_map(|(length, sent)| Step::PushRest(length, sent)),
        4 => any::<prop::sample::Index>().prop_map(Step::Send),
        1 => Just(Step::Take),
    ];
    prop::collection::vec(step, 1..300)
}

/// What one call would send.
fn offered(buffer: &WriteBuffer<Vec<u8>>) -> Vec<u8> {
    buffer.slices().iter().flat_map(|slice| slice.iter().copied()).collect()
}

proptest! {
    #[test]
    fn a_write_buffer_is_a_queue_of_bytes(steps in steps()) {
        let mut buffer = WriteBuffer::default();
        let mut model: Vec<u8> = Vec::new();
        let mut next = 0u8;
        let mut bytes = |length: usize| -> Vec<u8> {
            (0..length).map(|_| { next = next.wrapping_add(1); next }).collect()
        };
        for step in steps {
            match step {
                Step::Push(length) => {
                    let chunk = bytes(length);
                    model.extend(&chunk);
                    buffer.push(chunk);
                }
                Step::PushRest(length, sent) if model.is_empty() => {
                    let chunk = bytes(length);
                    let sent = sent.index(length + 1);
                    model.extend(&chunk[sent..]);
                    buffer.push_rest(chunk, sent);
                }
                Step::PushRest(..) => {}
                Step::Send(part) => {
                    let count = part.index(offered(&buffer).len() + 1);
                    buffer.advance(count);
                    model.drain(..count);
                }
                Step::Take => {
                    let taken: usize = buffer.take().map(|chunk| chunk.len()).sum();
                    prop_assert!(taken >= model.len());
                    model.clear();
                }
            }
            prop_assert_eq!(buffer.len(), model.len());
            prop_assert_eq!(buffer.is_empty(), model.is_empty());
            prop_assert_eq!(offered(&buffer), &model[..]);
            prop_assert!(buffer.slices().iter().all(|slice| !slice.is_empty()));
        }
    }

    #[test]
    fn one_call_is_offered_what_it_can_take(count in 1..3000usize, sent in any::<prop::sample::Index>()) {
        let mut buffer = WriteBuffer::default();
        (0..count).for_each(|_| buffer.push(vec![0u8; 3]));
        buffer.advance(sent.index(count * 3));
        let slices = buffer.slices();
        prop_assert!(slices.len() <= MAX_SLICES);
        prop_assert_eq!(slices.len(), buffer.len().div_ceil(3).min(MAX_SLICES));
    }

    #[test]
    fn flow_control_has_two_marks(
        marks in (0..100i64, 0..100i64),
        sizes in prop::collection::vec(0..120usize, 1..200),
    ) {
        let (low, high) = (marks.0.min(marks.1), marks.0.max(marks.1));
        let mut flow = FlowControl::default();
        flow.set_limits(Limits::new(Some(high), Some(low)).unwrap());
        let (mut paused, mut before) = (false, 0);
        for size in sizes {
            if size >= before {
                let pause = flow.grown(size);
                prop_assert_eq!(pause, !paused && size as i64 > high);
                paused |= pause;
            } else {
                let resume = flow.shrunk(size);
                prop_assert_eq!(resume, paused && size as i64 <= low);
                paused &= !resume;
            }
            prop_assert_eq!(flow.is_paused(), paused);
            before = size;
        }
    }

    #[test]
    fn limits_are_in_order(high in prop::option::of(any::<i64>()), low in prop::option::of(any::<i64>())) {
        match Limits::new(high, low) {
            Ok(limits) => {
                prop_assert!(limits.high() >= limits.low());
                prop_assert!(high.is_none_or(|high| limits.high() as i64 == high));
                prop_assert!(low.is_none_or(|low| limits.low() as i64 == low));
            }
            Err(error) => {
                prop_assert!(error.high < error.low || error.low < 0);
                let text = error.to_string();
                prop_assert_eq!(text, format!("high ({}) must be >= low ({}) must be >= 0", error.high, error.low));
            }
        }
    }

    #[test]
    fn room_follows_the_traffic(fill in prop::collection::vec(0.0..=1.0f64, 1..100)) {
        let mut size = ReadSize::default();
        for share in fill {
            let room = match size.next() {
                Room::Scratch => SCRATCH,
                Room::Own(room) => room,
            };
            prop_assert!((SCRATCH..=4 * SCRATCH).contains(&room));
            let received = (room as f64 * share) as usize;
            size.record(received);
            prop_assert_eq!(size.is_large(), received >= 4096 || size.room() > SCRATCH);
            prop_assert!(size.room() > received.min(SCRATCH - 1) && size.room() <= 4 * SCRATCH);
            let next = match size.next() {
                Room::Scratch => SCRATCH,
                Room::Own(room) => room,
            };
            if received == room {
                prop_assert_eq!(next, (room * 2).min(4 * SCRATCH));
            } else if received < room / 4 {
                prop_assert_eq!(next, (room / 2).max(SCRATCH));
            } else {
                prop_assert_eq!(next, room);
            }
        }
    }
}

/// Small messages never pay for what a large one needed for more than a few reads.
#[test]
fn room_shrinks_back() {
    let mut size = ReadSize::default();
    for _ in 0..10 {
        let room = match size.next() {
            Room::Scratch => SCRATCH,
            Room::Own(room) => room,
        };
        size.record(room);
    }
    assert_eq!(size.next(), Room::Own(4 * SCRATCH));
    size.record(1);
    size.record(1);
    assert_eq!(size.next(), Room::Scratch);
}

#[derive(Clone, Debug)]
enum Use {
    Push(usize),
    Consume(prop::sample::Index),
    Unread(usize),
    Clear,
}

proptest! {
    #[test]
    fn a_read_buffer_is_a_queue_of_bytes(
        uses in prop::collection::vec(
            prop_oneof![
                6 => (0..3000usize).prop_map(Use::Push),
                6 => any::<prop::sample::Index>().prop_map(Use::Consume),
                1 => (0..50usize).prop_map(Use::Unread),
                1 => Just(Use::Clear),
            ],
            1..200,
        ),
    ) {
        let mut buffer = ReadBuffer::default();
        let mut model: Vec<u8> = Vec::new();
        let mut next = 0u8;
        let mut bytes = |length: usize| -> Vec<u8> {
            (0..length).map(|_| { next = next.wrapping_add(1); next }).collect()
        };
        for step in uses {
            match step {
                Use::Push(length) => {
                    let data = bytes(length);
                    buffer.push(&data);
                    model.extend(data);
                }
                Use::Consume(part) => {
                    let count = part.index(model.len() + 1);
                    buffer.consume(count);
                    model.drain(..count);
                }
                Use::Unread(length) => {
                    let data = bytes(length);
                    buffer.unread(data.clone());
                    model.splice(..0, data);
                }
                Use::Clear => {
                    buffer.clear();
                    model.clear();
                }
            }
            prop_assert_eq!(buffer.as_slice(), &model[..]);
            prop_assert_eq!(buffer.len(), model.len());
            prop_assert_eq!(buffer.is_empty(), model.is_empty());
        }
    }

    /// Against a model that looks at everything every time: the shortest beginning of the bytes that ends with a
    /// separator, the shortest separator it can be.
    #[test]
    fn a_search_finds_what_ends_first(
        separators in prop::collection::vec(prop::collection::vec(0..3u8, 1..5), 1..4),
        pieces in prop::collection::vec(prop::collection::vec(0..3u8, 0..12), 0..12),
    ) {
        if let [only] = &separators[..] {
            let (one, any) = (Separators::one(only).unwrap(), Separators::any(vec![only.clone().into()]).unwrap());
            let all: Vec<u8> = pieces.concat();
            prop_assert_eq!(Search::default().find(&one, &all), Search::default().find(&any, &all));
        }
        let boxed = separators.iter().map(|separator| separator.clone().into_boxed_slice()).collect();
        let any = Separators::any(boxed).unwrap();
        let longest = separators.iter().map(Vec::len).max().unwrap();
        let mut search = Search::default();
        let mut bytes = Vec::new();
        for piece in pieces {
            bytes.extend(piece);
            let expected = (0..=bytes.len()).find_map(|end| {
                let ending = separators.iter().filter(|separator| bytes[..end].ends_with(separator));
                ending.map(Vec::len).min().map(|length| Found { start: end - length, end })
            });
            prop_assert_eq!(search.find(&any, &bytes), expected);
            if expected.is_some() {
                return Ok(());
            }
            // What a separator could begin with is looked at again, and nothing else is.
            prop_assert!(search.searched() <= bytes.len());
            prop_assert!(bytes.len() - search.searched() < longest.max(2));
        }
    }

    #[test]
    fn a_byte_is_found_as_a_separator_of_one(pieces in prop::collection::vec(prop::collection::vec(0..3u8, 0..5), 0..12)) {
        let separators = Separators::byte(0);
        let (mut search, mut by_byte) = (Search::default(), Search::default());
        let mut bytes = Vec::new();
        for piece in pieces {
            bytes.extend(piece);
            let found = search.find(&separators, &bytes);
            prop_assert_eq!(by_byte.find_byte(0, &bytes), found.map(|found| found.start));
            prop_assert_eq!(by_byte.searched(), search.searched());
        }
    }
}

#[test]
fn separators_are_not_empty() {
    assert!(Separators::one(b"").is_none());
    assert!(Separators::any(Vec::new()).is_none());
    assert!(Separators::any(vec![Box::default()]).is_none());
    assert!(Separators::any(vec![Box::from(*b"ab"), Box::default()]).is_none());
}

/// What a large message needed is given back, whichever way it leaves.
#[test]
fn an_empty_read_buffer_keeps_little() {
    let mut buffer = ReadBuffer::default();
    buffer.push(&[0; 100_000]);
    buffer.consume(100_000);
    assert!(buffer.is_empty());
    buffer.push(b"abc");
    assert_eq!(buffer.as_slice(), b"abc");
}

#[test]
#[should_panic(expected = "more was read than there was")]
fn no_more_can_be_read_than_there_is() {
    let mut buffer = ReadBuffer::default();
    buffer.push(b"abc");
    buffer.consume(4);
}
