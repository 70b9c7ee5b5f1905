//! The bodies of requests: what is understood is said again in the same words; what is not is refused.

use api::{
    gates::{ApproveBody, DenyBody},
    inbound::InboundBody,
    projects::{EnginesBody, NewProjectBody},
    protocols::NewProtocolBody,
    runs::NewRunBody,
    steps::{ApproveStepBody, NewStepBody},
    tokens::NewTokenBody,
};
use serde::{Serialize, de::DeserializeOwned};

/// One text as the body of every request that has one.
pub fn body(text: &[u8]) {
    round::<InboundBody>(text);
    round::<NewProjectBody>(text);
    round::<EnginesBody>(text);
    round::<NewProtocolBody>(text);
    round::<NewStepBody>(text);
    round::<ApproveStepBody>(text);
    round::<NewRunBody>(text);
    round::<ApproveBody>(text);
    round::<DenyBody>(text);
    round::<NewTokenBody>(text);
}

fn round<T: DeserializeOwned + Serialize>(text: &[u8]) {
    if let Ok(value) = serde_json::from_slice::<T>(text) {
        let said = serde_json::to_vec(&value).expect("what was read can be written");
        let again = serde_json::from_slice::<T>(&said).expect("what was written can be read");
        assert_eq!(serde_json::to_vec(&again).expect("what was read can be written"), said);
    }
}
