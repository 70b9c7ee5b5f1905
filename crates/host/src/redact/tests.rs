use super::*;

const KEY: &str = "sk-live/9f\"2+Zq7.Xw4_Ab-81yUtR";

fn redacted(text: &[u8]) -> String {
    let mut redactor = Redactor::new([KEY]);
    let mut out = redactor.feed(text);
    out.extend(redactor.finish());
    String::from_utf8(out).unwrap()
}

/// The forms as other programs write them, not by the functions under test.
fn written() -> Vec<(&'static str, String)> {
    let hex: String = KEY.bytes().map(|byte| format!("{byte:02x}")).collect();
    let percent = KEY.replace('/', "%2F").replace('"', "%22").replace('+', "%2B");
    let mut forms = vec![
        ("plain", KEY.to_owned()),
        ("hexadecimal", hex.clone()),
        ("upper hexadecimal", hex.to_uppercase()),
        ("percent-encoded", percent.clone()),
        ("lower percent-encoded", percent.replace("%2F", "%2f").replace("%2B", "%2b")),
        ("escaped", KEY.replace('"', "\\\"")),
        ("escaped twice", KEY.replace('"', "\\\\\\\"")),
        ("escaped with slashes", KEY.replace('"', "\\\"").replace('/', "\\/")),
    ];
    for before in ["", "k", "ke", "user:", "Authorization: Bearer "] {
        let text = format!("{before}{KEY} and more");
        forms.push(("base64", STANDARD_NO_PAD.encode(&text)));
        forms.push(("base64 for addresses", URL_SAFE_NO_PAD.encode(&text)));
    }
    let long = STANDARD_NO_PAD.encode(format!("{}{KEY} and more", "x".repeat(40)));
    for width in WIDTHS {
        let lines: Vec<&str> = long.as_bytes().chunks(width).map(|line| std::str::from_utf8(line).unwrap()).collect();
        forms.push(("base64 in lines", lines.join("\n")));
        forms.push(("base64 in escaped lines", lines.join("\\n")));
    }
    forms
}

/// What of the secret could be read from a text, whatever its form: a third of it is too much.
fn tells(text: &str) -> bool {
    let hex: String = KEY.bytes().map(|byte| format!("{byte:02x}")).collect();
    let flat = text.replace("\\n", "").replace('\n', "");
    let plain = [KEY[8..18].to_owned(), hex[16..36].to_owned(), hex[16..36].to_uppercase()];
    let encoded = (0..3).flat_map(|offset| {
        let standard = inside(&STANDARD_NO_PAD, KEY.as_bytes(), offset);
        let safe = inside(&URL_SAFE_NO_PAD, KEY.as_bytes(), offset);
        [standard, safe].map(|form| String::from_utf8(form[8..20].to_vec()).unwrap())
    });
    plain.into_iter().chain(encoded).any(|part| flat.contains(&part))
}

#[test]
fn a_secret_is_found_in_every_form() {
    for (name, form) in written() {
        let text = format!("before {form} after");
        let cleaned = redacted(text.as_bytes());
        assert!(cleaned.contains("[redacted]"), "{name}: {text} became {cleaned}");
        assert!(!tells(&cleaned), "{name}: {cleaned}");
        assert!(cleaned.starts_with("before ") && cleaned.ends_with(" after"), "{name}: {cleaned}");
    }
}

#[test]
fn where_a_text_is_cut_makes_no_difference() {
    for (name, form) in written() {
        let text = format!("before {form} after");
        let whole = redacted(text.as_bytes());
        for cut in 0..text.len() {
            let mut redactor = Redactor::new([KEY]);
            let mut out = redactor.feed(&text.as_bytes()[..cut]);
            out.extend(redactor.feed(&text.as_bytes()[cut..]));
            out.extend(redactor.finish());
            assert_eq!(String::from_utf8(out).unwrap(), whole, "{name} cut at {cut}");
        }
    }
}

#[test]
fn byte_by_byte_makes_no_difference_and_little_is_held() {
    let text: String = written().into_iter().map(|(_, form)| format!("{form} sk-live/9f and so on\n")).collect();
    let mut redactor = Redactor::new([KEY]);
    let mut out = Vec::new();
    for byte in text.bytes() {
        out.extend(redactor.feed(&[byte]));
        assert!(redactor.held.len() < 200);
    }
    out.extend(redactor.finish());
    assert_eq!(String::from_utf8(out).unwrap(), redacted(text.as_bytes()));
}

#[test]
fn what_cannot_become_a_secret_is_given_back_at_once() {
    let mut redactor = Redactor::new([KEY]);
    assert_eq!(redactor.feed(b"nothing of it\n"), b"nothing of it\n");
    assert_eq!(redactor.feed(b"sk-l"), b"");
    assert_eq!(redactor.feed(b"ike that"), b"sk-like that");
}

#[test]
fn the_longer_of_two_secrets_is_taken_out_as_a_whole() {
    let mut redactor = Redactor::new(["abcdefgh", "abcdefghijklmnop"]);
    assert_eq!(redactor.redact("x abcdefghijklmnop y abcdefgh z"), "x [redacted] y [redacted] z");
}

#[test]
fn without_secrets_nothing_is_changed() {
    for secrets in [vec![], vec!["short"], vec!["   "]] {
        let mut redactor = Redactor::new(secrets);
        assert_eq!(redactor.redact("a short text"), "a short text");
    }
}
