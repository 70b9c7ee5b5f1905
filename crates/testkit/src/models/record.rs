//! What a server was asked, kept for assertions.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::Value;

use super::asked::Asked;

/// One request, whatever became of it.
#[derive(Debug, Clone, Serialize)]
pub struct Seen {
    pub method: String,
    /// With its query.
    pub path: String,
    pub headers: BTreeMap<String, String>,
    /// As JSON; text where it was none.
    pub body: Value,
    /// What was asked of the model; nothing for every other request.
    pub asked: Option<Asked>,
    /// The place of the rule that answered; nothing when none fitted.
    pub rule: Option<usize>,
    /// The status that was chosen; nothing for a request that is never answered.
    pub status: Option<u16>,
}

impl Seen {
    /// The last text of the user, if the model was asked.
    pub fn prompt(&self) -> &str {
        self.asked.as_ref().map_or("", Asked::prompt)
    }

    /// The request's headers and body as one text, to look for what must not be in it.
    pub fn everything(&self) -> String {
        let headers: String = self.headers.iter().map(|(name, value)| format!("{name}: {value}\n")).collect();
        format!("{} {}\n{headers}\n{}", self.method, self.path, self.body)
    }

    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", String::as_str)
    }
}
