//! A search that goes on with every piece finds what a search of the whole finds: the separator that ends first.

#![no_main]

use arbitrary::Arbitrary;
use ferrio::stream::{Search, Separators};
use libfuzzer_sys::fuzz_target;

#[derive(Arbitrary, Debug)]
struct Input {
    separators: Vec<Vec<u8>>,
    pieces: Vec<Vec<u8>>,
    /// Few different bytes, so that separators are found.
    mask: u8,
}

fuzz_target!(|input: Input| {
    let masked = |bytes: &Vec<u8>| -> Vec<u8> { bytes.iter().map(|byte| byte & input.mask).collect() };
    let separators: Vec<Vec<u8>> = input.separators.iter().take(4).map(masked).collect();
    let Some(compiled) = Separators::any(separators.iter().cloned().map(Vec::into_boxed_slice).collect()) else {
        assert!(separators.is_empty() || separators.iter().any(Vec::is_empty));
        return;
    };
    let mut search = Search::default();
    let mut bytes = Vec::new();
    for piece in &input.pieces {
        bytes.extend(masked(piece));
        let expected = (0..=bytes.len()).find_map(|end| {
            let ending = separators.iter().filter(|separator| bytes[..end].ends_with(separator));
            ending.map(|separator| separator.len()).min().map(|length| (end - length, end))
        });
        let found = search.find(&compiled, &bytes).map(|found| (found.start, found.end));
        assert_eq!(found, expected);
        if found.is_some() {
            return;
        }
        assert!(search.searched() <= bytes.len());
    }
});
