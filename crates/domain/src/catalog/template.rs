//! Texts with `{{parameter}}` in them.
//!
//! Rendering is one pass: what a parameter brings in is never read as a template again.

use std::{collections::BTreeMap, fmt};

use serde::{Serialize, Serializer};

/// A parsed template. Equal when written the same.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Template {
    source: String,
    parts: Vec<Part>,
}

#[derive(Clone, PartialEq, Eq, Debug)]
enum Part {
    /// Never empty.
    Literal(String),
    Parameter(String),
}

/// Why a text is not a template.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TemplateError {
    #[error("`{{{{` without `}}}}` after it")]
    Unclosed,
    #[error("`{{{{…}}}}` must hold the name of a parameter")]
    Name,
}

impl Template {
    pub fn parse(source: &str) -> Result<Self, TemplateError> {
        let mut parts = Vec::new();
        let mut rest = source;
        while let Some((literal, opened)) = rest.split_once("{{") {
            let (name, after) = opened.split_once("}}").ok_or(TemplateError::Unclosed)?;
            let name = name.trim_matches(' ');
            if !crate::grammar::is_key(name) {
                return Err(TemplateError::Name);
            }
            if !literal.is_empty() {
                parts.push(Part::Literal(literal.to_owned()));
            }
            parts.push(Part::Parameter(name.to_owned()));
            rest = after;
        }
        if !rest.is_empty() {
            parts.push(Part::Literal(rest.to_owned()));
        }
        Ok(Self { source: source.to_owned(), parts })
    }

    pub fn as_str(&self) -> &str {
        &self.source
    }

    /// The names of its parameters, as often as they stand there.
    pub fn parameters(&self) -> impl Iterator<Item = &str> {
        self.parts.iter().filter_map(|part| match part {
            Part::Parameter(name) => Some(name.as_str()),
            Part::Literal(_) => None,
        })
    }

    /// The parameter whose value is the start of what is rendered.
    pub fn leading_parameter(&self) -> Option<&str> {
        match self.parts.first()? {
            Part::Parameter(name) => Some(name),
            Part::Literal(_) => None,
        }
    }

    /// Fills in the values; loading has made sure that each parameter has one.
    pub fn render(&self, values: &BTreeMap<String, String>) -> String {
        let mut text = String::new();
        for part in &self.parts {
            match part {
                Part::Literal(literal) => text.push_str(literal),
                Part::Parameter(name) => text.push_str(values.get(name).map_or("", String::as_str)),
            }
        }
        text
    }
}

impl fmt::Display for Template {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.source)
    }
}

impl Serialize for Template {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.source)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn parameters_are_filled_in_once() {
        let template = Template::parse("a {{x}} b {{ y }}{{x}}}").unwrap();

        assert_eq!(template.parameters().collect::<Vec<_>>(), ["x", "y", "x"]);
        assert_eq!(template.leading_parameter(), None);
        assert_eq!(template.render(&values(&[("x", "{{y}}"), ("y", "2")])), "a {{y}} b 2{{y}}}");
    }

    #[test]
    fn the_leading_parameter_starts_the_text() {
        assert_eq!(Template::parse("{{x}}-y").unwrap().leading_parameter(), Some("x"));
        assert_eq!(Template::parse("").unwrap().leading_parameter(), None);
    }

    #[test]
    fn malformed_templates_are_refused() {
        assert_eq!(Template::parse("a {{x"), Err(TemplateError::Unclosed));
        assert_eq!(Template::parse("{{}}"), Err(TemplateError::Name));
        assert_eq!(Template::parse("{{.Name}}"), Err(TemplateError::Name));
        assert_eq!(Template::parse("{{{x}}}"), Err(TemplateError::Name));
    }

    #[test]
    fn single_braces_are_plain_text() {
        assert_eq!(Template::parse("{\"a\": {}}").unwrap().render(&BTreeMap::new()), "{\"a\": {}}");
    }
}
