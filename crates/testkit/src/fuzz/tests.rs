use super::json::{Corpus, Kind, Line};
use super::*;

const LINE: &str = r#"{"type":"item", "item":{"n":-1.5,"list":["a\"b",null,{}]}}"#;

#[test]
fn a_line_is_taken_apart_into_what_can_be_replaced() {
    let line = Line::new(LINE);

    let of = |kind: Kind| -> Vec<(&str, &str)> {
        let tokens = line.tokens.iter().filter(|token| token.kind == kind);
        tokens.map(|token| (token.name.as_str(), &line.text[token.at.clone()])).collect()
    };
    assert_eq!(of(Kind::Text), [("type", "\"item\""), ("list", r#""a\"b""#)]);
    assert_eq!(of(Kind::Plain), [("n", "-1.5"), ("list", "null")]);
    assert_eq!(of(Kind::Name).len(), 4);
    assert_eq!(of(Kind::Nest).len(), 4);
    assert!(Line::new("no JSON at all").tokens.is_empty() || Line::new("{\"a\":").tokens.is_empty());
}

#[test]
fn a_seed_draws_the_same_inputs_and_most_of_them_are_spoilt() {
    let corpus = Corpus::new([format!("{LINE}\n{LINE}\n")]);
    let drawn = |seed: u64| -> Vec<Vec<u8>> {
        let draw = |run| {
            let mut out = Vec::new();
            corpus.draw(&mut Random::new(seed).fork(run), &mut out);
            out
        };
        (0..200).map(draw).collect()
    };

    assert_eq!(drawn(1), drawn(1));
    assert_ne!(drawn(1), drawn(2));
    let whole = |input: &&Vec<u8>| String::from_utf8_lossy(input).lines().all(|line| line == LINE);
    assert!(drawn(1).iter().filter(whole).count() < 100);
}

#[test]
fn an_input_that_fails_a_check_fails_the_test() {
    let fuzz = Fuzz { name: "itself", seed: 1, n_runs: 100 };
    let caught = catch_unwind(AssertUnwindSafe(|| fuzz.run(|random, _| assert!(random.below(10) != 3))));
    assert!(caught.is_err());
}
