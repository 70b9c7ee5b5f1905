//! Brokers between engines and their models: what one is told, and what came of it.

use std::net::{Ipv4Addr, SocketAddr};

use domain::attempt::{Attempt, Fact, Metered, Usage};
use engines::{
    broker::{self, Broker, Limits, Wire},
    engine::{Configured, Endpoint, Key},
};

use crate::{Worker, engine_run::usage_of, failure::Failure, lease::Lease};

/// Where an engine with a network of its own finds its broker: nobody else is there.
const INSIDE: u16 = 18_765;

impl Worker {
    /// The broker that an engine is configured to have. `alone`: the engine has a network of its own.
    pub(crate) fn broker_of(&self, configured: &Configured, alone: bool) -> Result<Option<Broker>, String> {
        if !configured.broker {
            return Ok(None);
        }
        let upstream = configured.upstream().ok_or_else(|| {
            format!("engine {}: a broker is configured, and the engine cannot be told where it is", configured.id)
        })?;
        let port = match alone {
            true => INSIDE,
            false => host::net::free_port().map_err(|error| format!("there is no port for a broker: {error}"))?,
        };
        Ok(Some(Broker {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, port)),
            upstream,
            token: host::random::base62(43),
            key: configured.key.as_ref().map(|key| key.reveal().to_owned()).unwrap_or_default(),
            limits: Limits { tokens: configured.token_budget },
        }))
    }

    /// What passed over the wire in an attempt; `None` without a broker.
    pub(crate) fn wire_of(&self, attempt: &Attempt) -> Result<Option<Wire>, Failure> {
        broker::books::read(&self.attempt_dir(attempt), &attempt.nonce).map_err(Failure::retry)
    }

    /// Puts what passed over the wire beside what the engine said, for people to compare.
    pub(crate) async fn tell_metered(
        &self,
        lease: &Lease,
        attempt: &Attempt,
        configured: &Configured,
    ) -> Result<(), Failure> {
        let Some(wire) = self.wire_of(attempt)? else { return Ok(()) };
        let told = self.read_runs(attempt, configured.engine)?.usage().map(usage_of);
        let metered = Metered {
            wire: usage_of(wire.usage),
            told,
            calls: wire.n_calls,
            unmetered: wire.n_unmetered,
            refused: wire.n_refused,
        };
        Box::pin(self.tell(lease, attempt, Fact::Metered(metered))).await;
        Ok(())
    }
}

/// What an engine is told of its model that has a broker: the broker's door, and the token that opens it.
pub(crate) fn told_of(configured: &Configured, broker: &Broker) -> Endpoint {
    let variable = configured.key_variable().unwrap_or("MODEL_KEY");
    Endpoint { base_url: Some(broker.base_url()), key: Some(Key::new(variable, broker.token.clone())) }
}

/// What an attempt used: by the wire where that is known, never by the engine's word against it. What a call cost is
/// not on the wire.
pub(crate) fn usage_by(wire: Option<Wire>, told: Option<Usage>) -> Option<Usage> {
    let Some(wire) = wire else { return told };
    let mut used = usage_of(wire.usage);
    let told = told.unwrap_or_default();
    used.cost_micro_usd = told.cost_micro_usd;
    if wire.n_unmetered == 0 {
        // Every call said what it used, so that what no call said was not used.
        used.input_tokens = used.input_tokens.or(Some(0));
        used.output_tokens = used.output_tokens.or(Some(0));
        return Some(used);
    }
    // Some calls are missing: the higher of two numbers that are both too low.
    let higher = |mine: &mut Option<u64>, other: Option<u64>| *mine = (*mine).max(other);
    higher(&mut used.input_tokens, told.input_tokens);
    higher(&mut used.cached_tokens, told.cached_tokens);
    higher(&mut used.cache_write_tokens, told.cache_write_tokens);
    higher(&mut used.output_tokens, told.output_tokens);
    higher(&mut used.reasoning_tokens, told.reasoning_tokens);
    (used != Usage::default()).then_some(used)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wire(input: u64, n_unmetered: u32) -> Wire {
        let usage = engines::engine::Usage { input_tokens: Some(input), ..Default::default() };
        Wire { usage, n_calls: 1, n_unmetered, n_refused: 0 }
    }

    fn told(input: u64) -> Option<Usage> {
        Some(Usage { input_tokens: Some(input), cost_micro_usd: Some(7), ..Usage::default() })
    }

    #[test]
    fn the_wire_is_believed_and_where_it_is_silent_nobody_is_billed_less() {
        let input = |usage: Option<Usage>| usage.unwrap().input_tokens;

        assert_eq!(usage_by(None, told(3)), told(3));
        assert_eq!(input(usage_by(Some(wire(10, 0)), told(3))), Some(10));
        assert_eq!(input(usage_by(Some(wire(10, 0)), told(300))), Some(10));
        assert_eq!(input(usage_by(Some(wire(10, 1)), told(300))), Some(300));
        assert_eq!(usage_by(Some(wire(10, 0)), told(3)).unwrap().cost_micro_usd, Some(7));
        assert_eq!(usage_by(Some(Wire { n_unmetered: 1, ..Wire::default() }), None), None);
        let nothing = usage_by(Some(Wire::default()), None).unwrap();
        assert_eq!((nothing.input_tokens, nothing.output_tokens), (Some(0), Some(0)));
    }
}
