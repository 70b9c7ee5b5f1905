//! Licence expressions, as far as crates write them: OR, AND, WITH, parentheses, and the slash of old manifests.

/// Whether an expression can be met with permitted licences alone.
pub(super) fn is_met(expression: &str, permits: &dyn Fn(&str) -> bool) -> Result<bool, String> {
    let spaced = expression.replace('/', " OR ").replace('(', " ( ").replace(')', " ) ");
    let words: Vec<&str> = spaced.split_whitespace().collect();
    let mut parser = Parser { words: &words, permits };
    let met = parser.alternatives()?;
    match parser.words {
        [] => Ok(met),
        [rest, ..] => Err(format!("`{rest}` is unexpected in `{expression}`")),
    }
}

struct Parser<'a> {
    words: &'a [&'a str],
    permits: &'a dyn Fn(&str) -> bool,
}

impl Parser<'_> {
    fn alternatives(&mut self) -> Result<bool, String> {
        let mut met = self.conjunction()?;
        while self.take("OR") {
            met |= self.conjunction()?;
        }
        Ok(met)
    }

    fn conjunction(&mut self) -> Result<bool, String> {
        let mut met = self.licence()?;
        while self.take("AND") {
            met &= self.licence()?;
        }
        Ok(met)
    }

    fn licence(&mut self) -> Result<bool, String> {
        if self.take("(") {
            let met = self.alternatives()?;
            return if self.take(")") { Ok(met) } else { Err("a parenthesis is open".to_owned()) };
        }
        let mut name = self.word()?.to_owned();
        if self.take("WITH") {
            name = format!("{name} WITH {}", self.word()?);
        }
        Ok((self.permits)(&name))
    }

    fn take(&mut self, expected: &str) -> bool {
        match self.words {
            [first, rest @ ..] if *first == expected => {
                self.words = rest;
                true
            }
            _ => false,
        }
    }

    fn word(&mut self) -> Result<&str, String> {
        let (first, rest) = self.words.split_first().ok_or("the expression ends too early")?;
        self.words = rest;
        Ok(first)
    }
}

fn mit_and_isc(name: &str) -> bool {
    ["MIT", "ISC"].contains(&name)
}

#[test]
fn one_permitted_alternative_is_enough() {
    assert_eq!(is_met("GPL-3.0 OR MIT", &mit_and_isc), Ok(true));
    assert_eq!(is_met("GPL-3.0/MIT", &mit_and_isc), Ok(true));
    assert_eq!(is_met("GPL-3.0 OR LGPL-3.0", &mit_and_isc), Ok(false));
}

#[test]
fn every_part_of_a_conjunction_must_be_permitted() {
    assert_eq!(is_met("MIT AND ISC", &mit_and_isc), Ok(true));
    assert_eq!(is_met("MIT AND OpenSSL", &mit_and_isc), Ok(false));
    assert_eq!(is_met("(MIT OR GPL-3.0) AND OpenSSL", &mit_and_isc), Ok(false));
    assert_eq!(is_met("MIT OR GPL-3.0 AND OpenSSL", &mit_and_isc), Ok(true));
}

#[test]
fn a_licence_with_an_exception_is_another_licence() {
    assert_eq!(is_met("MIT WITH Some-exception", &mit_and_isc), Ok(false));
}

#[test]
fn a_malformed_expression_is_an_error_and_not_a_permission() {
    for malformed in ["", "MIT OR", "(MIT", "MIT ISC", "MIT)"] {
        assert!(is_met(malformed, &mit_and_isc).is_err(), "{malformed}");
    }
}
