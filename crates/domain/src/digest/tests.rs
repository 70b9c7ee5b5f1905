use proptest::prelude::*;
use serde_json::json;

use super::*;

fn canonical_of(text: &str) -> String {
    canonical(&serde_json::from_str(text).unwrap()).unwrap()
}

#[test]
fn the_standards_own_example_is_reproduced() {
    let source = r#"{
        "numbers": [333333333.33333329, 1E30, 4.50, 2e-3, 0.000000000000000000000000001],
        "string": "\u20ac$\u000F\u000aA'\u0042\u0022\u005c\\\"\/",
        "literals": [null, true, false]
    }"#;

    let expected = concat!(
        r#"{"literals":[null,true,false],"numbers":[333333333.3333333,1e+30,4.5,0.002,1e-27],"#,
        r#""string":"€$\u000f\nA'B\"\\\\\"/"}"#
    );
    assert_eq!(canonical_of(source), expected);
}

#[test]
fn keys_are_sorted_by_utf16_code_units() {
    let source = r#"{"\u20ac":"Euro Sign","\r":"Carriage Return","\ufb33":"Hebrew Letter Dalet With Dagesh","1":"One",
        "\ud83d\ude00":"Emoji: Grinning Face","\u0080":"Control","\u00f6":"Latin Small Letter O With Diaeresis"}"#;

    let order: Vec<String> =
        canonical_of(source).split(',').map(|m| m.rsplit('"').nth(1).unwrap().to_owned()).collect();

    assert_eq!(
        order,
        [
            "Carriage Return",
            "One",
            "Control",
            "Latin Small Letter O With Diaeresis",
            "Euro Sign",
            "Emoji: Grinning Face",
            "Hebrew Letter Dalet With Dagesh"
        ]
    );
}

#[test]
fn doubles_are_written_as_ecmascript_writes_them() {
    let vectors: [(u64, &str); 21] = [
        (0x0000_0000_0000_0000, "0"),
        (0x8000_0000_0000_0000, "0"),
        (0x0000_0000_0000_0001, "5e-324"),
        (0x8000_0000_0000_0001, "-5e-324"),
        (0x7fef_ffff_ffff_ffff, "1.7976931348623157e+308"),
        (0x4340_0000_0000_0000, "9007199254740992"),
        (0x4430_0000_0000_0000, "295147905179352830000"),
        (0x44b5_2d02_c7e1_4af5, "9.999999999999997e+22"),
        (0x44b5_2d02_c7e1_4af6, "1e+23"),
        (0x44b5_2d02_c7e1_4af7, "1.0000000000000001e+23"),
        (0x444b_1ae4_d6e2_ef4e, "999999999999999700000"),
        (0x444b_1ae4_d6e2_ef4f, "999999999999999900000"),
        (0x444b_1ae4_d6e2_ef50, "1e+21"),
        (0x3eb0_c6f7_a0b5_ed8c, "9.999999999999997e-7"),
        (0x3eb0_c6f7_a0b5_ed8d, "0.000001"),
        (0x41b3_de43_5555_5553, "333333333.3333332"),
        (0x41b3_de43_5555_5554, "333333333.33333325"),
        (0x41b3_de43_5555_5555, "333333333.3333333"),
        (0x41b3_de43_5555_5557, "333333333.33333343"),
        (0xbecb_f647_612f_3696, "-0.0000033333333333333333"),
        (0x4314_3ff3_c1cb_0959, "1424953923781206.2"),
    ];

    for (bits, expected) in vectors {
        assert_eq!(canonical(&json!(f64::from_bits(bits))).unwrap(), expected, "{bits:016x}");
    }
}

#[test]
fn integers_are_written_exactly() {
    assert_eq!(
        canonical(&json!([u64::MAX, i64::MIN, 9_007_199_254_740_993_i64, 0])).unwrap(),
        "[18446744073709551615,-9223372036854775808,9007199254740993,0]"
    );
}

#[test]
fn a_value_nested_too_deep_is_refused() {
    let mut value = json!(1);
    for _ in 0..200 {
        value = json!([value]);
    }

    assert_eq!(canonical(&value), Err(CanonicalError::TooDeep));
}

#[test]
fn a_digest_is_sha256_over_tag_and_canonical_text() {
    // printf 'pilothouse:job:v1\n{"a":1,"b":2}' | sha256sum
    let expected = "1d13efef413025b846ff5e3234d4228ada8c2390cc70ff3497f8cccf20b037a1";

    let digest = Digest::of("job", &json!({"b": 2, "a": 1})).unwrap();

    assert_eq!(digest.to_string(), expected);
    assert_eq!(digest.short(), format!("{}-{}", &expected[..4], &expected[4..8]));
    assert_eq!(expected.parse(), Ok(digest));
    assert_eq!(serde_json::from_value::<Digest>(json!(expected)).unwrap(), digest);
}

#[test]
fn the_tag_separates_domains() {
    assert_ne!(Digest::of("job", &json!({})).unwrap(), Digest::of("gate", &json!({})).unwrap());
}

#[test]
fn text_that_is_no_digest_is_refused() {
    let long = "0".repeat(65);
    let accented = "é".repeat(32);
    for text in ["", "4e7a-91c0", &long, &accented, &"g".repeat(64)] {
        assert_eq!(text.parse::<Digest>(), Err(DigestError), "{text}");
    }
}

proptest! {
    #[test]
    fn canonical_text_reads_back_as_the_same_text(keys in prop::collection::vec(("\\PC{0,8}", any::<i64>()), 0..8), f in any::<f64>()) {
        let mut object = serde_json::Map::new();
        for (key, number) in keys {
            object.insert(key, json!(number));
        }
        if f.is_finite() {
            object.insert("f".to_owned(), json!(f));
        }
        let once = canonical(&Value::Object(object)).unwrap();
        let read: Value = serde_json::from_str(&once).unwrap();
        if let Some(number) = read.get("f") {
            prop_assert_eq!(number.as_f64(), Some(f + 0.0));
        }
        prop_assert_eq!(canonical(&read).unwrap(), once);
    }
}
