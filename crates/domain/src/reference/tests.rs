use proptest::prelude::*;

use super::*;

#[test]
fn a_reference_is_made_of_its_moment_and_of_random_bits() {
    let drawn = |micros, random: u32| Ref::drawn(Timestamp::from_micros(micros), random.to_le_bytes()).to_string();

    assert_eq!(drawn(0, 0), "0000000");
    assert_eq!(drawn(8191, 1), "0000001");
    assert_eq!(drawn(8192, 31), "008000Z");
    // 12 bits of the window and 23 random ones; what is more is left out.
    assert_eq!(drawn(4095 << 13, u32::MAX), "ZZZZZZZ");
    assert_eq!(drawn(4096 << 13, 1 << 23), "0000000");
    assert_eq!(drawn(1_795_381_964_810_045, 0x12_3456), drawn(1_795_381_964_810_045 + (4096 << 13), 0x92_3456));
    assert_eq!(drawn(-1, 0), "ZZR0000");
}

#[test]
fn references_of_one_moment_lie_beside_each_other() {
    let drawn = |micros, random: u32| Ref::drawn(Timestamp::from_micros(micros), random.to_le_bytes());

    assert!(drawn(8191, 0x7F_FFFF) < drawn(8192, 0));
    assert!(drawn(100 * 8192, u32::MAX) < drawn(101 * 8192, 0));
}

#[test]
fn a_reference_is_read_as_people_type_it() {
    for (typed, kept) in [
        ("7Q4K2MX", "7Q4K2MX"),
        ("7q4k2mx", "7Q4K2MX"),
        ("J-7q4k2mx", "7Q4K2MX"),
        ("p-7Q4K2MX", "7Q4K2MX"),
        ("G-7Q4K2MX", "7Q4K2MX"),
        ("a1b2c3", "A1B2C3"),
        ("oOiIlL1", "0011111"),
        ("ABCDEFGH", "ABCDEFGH"),
    ] {
        assert_eq!(Ref::parse(typed).map(|r| r.to_string()), Ok(kept.to_owned()), "{typed}");
    }
}

#[test]
fn hostile_references_are_refused() {
    for (typed, error) in [
        ("", RefError::Length { found: 0 }),
        ("J-", RefError::Length { found: 0 }),
        ("J-J-7Q4K2M", RefError::Character { place: 4 }),
        ("ABCDE", RefError::Length { found: 5 }),
        ("ABCDEFGHJ", RefError::Length { found: 9 }),
        ("X-ABCDEF", RefError::Character { place: 2 }),
        ("ABCDEU", RefError::Character { place: 6 }),
        ("../../x", RefError::Character { place: 1 }),
        ("--upload", RefError::Character { place: 1 }),
        ("ABC\u{202e}DEF", RefError::Character { place: 4 }),
        ("ABC\0DEF", RefError::Character { place: 4 }),
        ("ABC DEF", RefError::Character { place: 4 }),
        ("ABCDEF\n", RefError::Character { place: 7 }),
        ("ＡＢＣＤＥＦ", RefError::Character { place: 1 }),
        ("ABCDE\u{131}", RefError::Character { place: 6 }),
    ] {
        assert_eq!(Ref::parse(typed), Err(error), "{typed:?}");
    }
}

#[test]
fn a_reference_is_a_string_on_the_wire() {
    let reference = Ref::parse("7Q4K2MX").unwrap();

    assert_eq!(serde_json::to_string(&reference).unwrap(), "\"7Q4K2MX\"");
    assert_eq!(serde_json::from_str::<Ref>("\"j-7q4k2mx\"").unwrap(), reference);
    assert!(serde_json::from_str::<Ref>("\"U\"").is_err());
    assert!(serde_json::from_str::<Ref>("7").is_err());
}

proptest! {
    #[test]
    fn any_text_is_read_or_refused(text in "\\PC{0,12}") {
        if let Ok(reference) = Ref::parse(&text) {
            prop_assert_eq!(Ref::parse(reference.as_str()), Ok(reference));
        }
    }

    #[test]
    fn what_was_made_is_read_back(micros in any::<i64>(), random in any::<[u8; 4]>()) {
        let made = Ref::drawn(Timestamp::from_micros(micros), random);
        prop_assert_eq!(made.as_str().len(), 7);
        prop_assert_eq!(Ref::parse(&made.as_str().to_lowercase()), Ok(made));
    }
}
