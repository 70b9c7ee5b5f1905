//! The gate that a spec puts before a step: `"before"`, or an object that also says who decides.

use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error};

use crate::{
    catalog::{Principal, parse_duration, render_duration},
    gate::{Approvers, GatePolicy},
};

/// How long people may take unless the spec says otherwise.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(24 * 3600);

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct StepGate {
    /// `None`: whoever holds the right to decide gates. An empty list is nobody.
    pub approvers: Option<Vec<Principal>>,
    pub quorum: u32,
    pub self_approval: bool,
    pub timeout: Duration,
}

impl Default for StepGate {
    fn default() -> Self {
        Self { approvers: None, quorum: 1, self_approval: false, timeout: DEFAULT_TIMEOUT }
    }
}

impl StepGate {
    pub fn policy(&self) -> GatePolicy {
        GatePolicy {
            approvers: self.approvers.clone().map_or(Approvers::Anyone, Approvers::Listed),
            quorum: self.quorum,
            distinct_from_requester: !self.self_approval,
            key: "gate.self_approval".to_owned(),
        }
    }
}

/// As written in an object.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    when: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    approvers: Option<Vec<Principal>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    quorum: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    self_approval: Option<bool>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    timeout: Option<String>,
}

impl Serialize for StepGate {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let plain = Self::default();
        if *self == plain {
            return serializer.serialize_str("before");
        }
        let written = Written {
            when: "before".to_owned(),
            approvers: self.approvers.clone(),
            quorum: (self.quorum != plain.quorum).then_some(self.quorum),
            self_approval: (self.self_approval != plain.self_approval).then_some(self.self_approval),
            timeout: (self.timeout != plain.timeout).then(|| render_duration(self.timeout)),
        };
        written.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for StepGate {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let value = serde_json::Value::deserialize(deserializer)?;
        let written = match value {
            serde_json::Value::String(when) => {
                Written { when, approvers: None, quorum: None, self_approval: None, timeout: None }
            }
            other => Written::deserialize(other).map_err(|error| D::Error::custom(format!("gate: {error}")))?,
        };
        if written.when != "before" {
            return Err(D::Error::custom(format!("gate: expected \"before\", found {:?}", written.when)));
        }
        let plain = Self::default();
        let timeout = match written.timeout {
            None => plain.timeout,
            Some(text) => parse_duration(&text)
                .filter(|timeout| !timeout.is_zero())
                .ok_or_else(|| D::Error::custom(format!("gate.timeout: {text:?} is not a duration such as `24h`")))?,
        };
        Ok(Self {
            approvers: written.approvers,
            quorum: written.quorum.unwrap_or(plain.quorum),
            self_approval: written.self_approval.unwrap_or(plain.self_approval),
            timeout,
        })
    }
}
