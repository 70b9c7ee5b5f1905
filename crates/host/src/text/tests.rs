use super::*;

const HOSTILE: &[&[u8]] = &[
    b"plain text\n\twith a tab\n",
    b"\x1b[31mred\x1b[0m and \x1b[2J\x1b[1;1Hcleared",
    b"\x1b]0;title\x07after \x1b]8;;http://evil\x1b\\link\x1b]8;;\x1b\\ end",
    b"\x1b]52;c;ZXZpbA==\x07clip\x1bPdcs payload\x1b\\x\x1b_apc\x1b\\y\x1b^pm\x1b\\z",
    b"unfinished \x1b]0;title\nnext line",
    b"nested \x1b\x1b[31mx \x1b[3\x1b[4mz \x1b(Bq \x1b",
    b"rewrite\rhidden\r\nnext\r\r\nlast\r",
    b"nul\0 bell\x07 del\x7f c1 \xc2\x9b31m \xc2\x85",
    "bidi \u{202e}evil\u{202c} \u{2066}x\u{2069} zw\u{200b}\u{200d} bom\u{feff} tag\u{e0041}".as_bytes(),
    b"bad \xff\xfe utf8 \xe2\x82 cut \xf0\x9f\x98",
    "grün € 😀 漢字\n".as_bytes(),
    b"\x1b]unfinished \xe2\x82\xac to the very end",
];

#[test]
fn what_is_left_is_readable_and_says_the_same() {
    assert_eq!(clean(HOSTILE[0]), "plain text\n\twith a tab\n");
    assert_eq!(clean(HOSTILE[1]), "red and cleared");
    assert_eq!(clean(HOSTILE[2]), "after link end");
    assert_eq!(clean(HOSTILE[3]), "clipxyz");
    assert_eq!(clean(HOSTILE[4]), "unfinished \nnext line");
    assert_eq!(clean(HOSTILE[6]), "rewrite␍hidden\nnext␍\nlast␍");
    assert_eq!(clean(HOSTILE[7]), "nul bell del c1 31m ");
    assert_eq!(clean(HOSTILE[8]), "bidi evil x zw bom tag");
    assert_eq!(clean(HOSTILE[9]), "bad �� utf8 � cut �");
    assert_eq!(clean(HOSTILE[10]), "grün € 😀 漢字\n");
}

#[test]
fn nothing_dangerous_is_ever_left() {
    for text in HOSTILE {
        let cleaned = clean(text);
        assert!(!cleaned.chars().any(|c| (c.is_control() && c != '\n' && c != '\t') || is_invisible(c)), "{cleaned:?}");
    }
}

#[test]
fn cleaning_twice_changes_nothing() {
    for text in HOSTILE {
        let once = clean(text);
        assert_eq!(clean(&once), once);
    }
}

#[test]
fn cutting_the_input_anywhere_changes_nothing() {
    for text in HOSTILE {
        let whole = clean(text);
        for first in 0..=text.len() {
            for second in first..=text.len() {
                let mut cleaner = Cleaner::new();
                let mut out = cleaner.feed(&text[..first]);
                out.push_str(&cleaner.feed(&text[first..second]));
                out.push_str(&cleaner.feed(&text[second..]));
                out.push_str(&cleaner.finish());
                assert_eq!(out, whole, "cut at {first} and {second}");
            }
        }
    }
}

#[test]
fn one_line_folds_and_cuts() {
    assert_eq!(one_line("  two\n\nlines\there ", 80), "two lines here");
    assert_eq!(one_line("abcdef", 4), "abc…");
    assert_eq!(one_line("abcd", 4), "abcd");
    assert_eq!(one_line("", 4), "");
    assert_eq!(one_line("x", 0), "");
}
