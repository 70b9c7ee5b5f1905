//! What is kept of a stream: cleaned, without secrets, the same wherever the pieces end.

use super::N_RUNS;
use host::redact::Redactor;
use host::text::{Cleaner, clean, is_invisible};
use testkit::fuzz::Fuzz;
use testkit::fuzz::text::Samples;

const SECRET: &str = "sk-ant-0123456789abcdef/+=\"x";

fn samples() -> Samples {
    let hex: String = SECRET.bytes().map(|byte| format!("{byte:02x}")).collect();
    let percent = SECRET.replace('/', "%2F").replace('+', "%2B").replace('=', "%3D").replace('"', "%22");
    let escaped = SECRET.replace('"', "\\\"");
    Samples::new(
        [
            format!("{{\"type\":\"text\",\"text\":\"the key is {escaped}\"}}\n"),
            format!("\u{1b}[31mred\u{1b}[0m {SECRET} {hex}\r\n"),
            format!("\u{1b}]0;title\u{7}{percent}\u{202e}{SECRET}"),
            format!("sk-ant-sk-ant-{SECRET}{SECRET}\n"),
            "plain words, é, \u{1f600} and a tab\t\n".to_owned(),
        ],
        &[SECRET, &hex, &percent, &escaped, "\u{1b}", "\u{200b}", "\u{9b}", "sk-ant-0123456789", "abcdef/+=\"x"],
    )
}

/// As a supervisor keeps it. A redactor that is done is ready for the next stream; to make one takes long.
fn kept(redactor: &mut Redactor, pieces: &[&[u8]]) -> Vec<u8> {
    let mut cleaner = Cleaner::new();
    let mut out = Vec::new();
    for piece in pieces {
        out.extend(redactor.feed(cleaner.feed(piece).as_bytes()));
    }
    out.extend(redactor.feed(cleaner.finish().as_bytes()));
    out.extend(redactor.finish());
    out
}

#[test]
fn what_is_kept_of_a_stream_is_clean_and_holds_no_secret() {
    let samples = samples();
    let mut redactor = Redactor::new([SECRET]);
    Fuzz::new("spool", N_RUNS).run(|random, input| {
        samples.draw(random, input);
        let mut cuts = [0; 2].map(|_| usize::try_from(random.below(input.len() as u64 + 1)).unwrap());
        cuts.sort_unstable();

        let whole = kept(&mut redactor, &[input]);

        let text = std::str::from_utf8(&whole).expect("whole characters");
        assert!(!text.contains(SECRET), "{text:?}");
        let steers = |c: char| (c.is_control() && !matches!(c, '\n' | '\t')) || is_invisible(c);
        assert!(!text.chars().any(steers), "{text:?}");
        // Reading it twice is most of the work, so that not every input is cut.
        if random.chance(25) {
            let pieces = [&input[..cuts[0]], &input[cuts[0]..cuts[1]], &input[cuts[1]..]];
            assert_eq!(kept(&mut redactor, &pieces), whole, "cut at {cuts:?}");
            // Whoever cleans it again changes nothing.
            assert_eq!(clean(text), text);
        }
    });
}
