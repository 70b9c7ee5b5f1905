//! Counters that only grow, turned into what was used since the last look.
//!
//! Some engines count a whole session, also over the runs that resumed it. Whoever adds up what they say counts twice.

use super::event::Usage;

/// What a session had used when it was last looked at.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Meter {
    seen: Usage,
}

impl Meter {
    /// What is new in a total. A counter that fell began again, or lies; nothing is new then.
    pub(crate) fn advance(&mut self, total: Usage) -> Usage {
        let step = |seen: &mut Option<u64>, total: Option<u64>| {
            let total = total?;
            let new = total.saturating_sub(seen.unwrap_or(0));
            *seen = Some(seen.unwrap_or(0).max(total));
            Some(new)
        };
        Usage {
            input_tokens: step(&mut self.seen.input_tokens, total.input_tokens),
            cached_tokens: step(&mut self.seen.cached_tokens, total.cached_tokens),
            cache_write_tokens: step(&mut self.seen.cache_write_tokens, total.cache_write_tokens),
            output_tokens: step(&mut self.seen.output_tokens, total.output_tokens),
            reasoning_tokens: step(&mut self.seen.reasoning_tokens, total.reasoning_tokens),
            cost_micro_usd: step(&mut self.seen.cost_micro_usd, total.cost_micro_usd),
        }
    }

    /// Counts in what was told as a difference.
    pub(crate) fn add(&mut self, more: Usage) {
        let add = |seen: &mut Option<u64>, more: Option<u64>| {
            if let Some(more) = more {
                *seen = Some(seen.unwrap_or(0).saturating_add(more));
            }
        };
        add(&mut self.seen.input_tokens, more.input_tokens);
        add(&mut self.seen.cached_tokens, more.cached_tokens);
        add(&mut self.seen.cache_write_tokens, more.cache_write_tokens);
        add(&mut self.seen.output_tokens, more.output_tokens);
        add(&mut self.seen.reasoning_tokens, more.reasoning_tokens);
        add(&mut self.seen.cost_micro_usd, more.cost_micro_usd);
    }

    /// All that was told so far.
    pub(crate) fn total(&self) -> Usage {
        self.seen
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn total(input: u64, cost: Option<u64>) -> Usage {
        Usage { input_tokens: Some(input), cost_micro_usd: cost, ..Usage::default() }
    }

    #[test]
    fn only_what_is_new_in_a_total_is_told() {
        let mut meter = Meter::default();
        assert_eq!(meter.advance(total(1200, None)), total(1200, None));
        assert_eq!(meter.advance(total(3600, Some(7))), total(2400, Some(7)));
        assert_eq!(meter.advance(total(3600, Some(7))), total(0, Some(0)));
    }

    #[test]
    fn a_counter_that_falls_takes_nothing_back_and_is_not_counted_again() {
        let mut meter = Meter::default();
        meter.advance(total(3600, None));
        assert_eq!(meter.advance(total(0, None)), total(0, None));
        assert_eq!(meter.advance(total(3600, None)), total(0, None));
    }
}
