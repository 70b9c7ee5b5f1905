//! Structured answers of engines that only know text: the question that asks for one, and the place to look for it.

use serde_json::Value;

/// A prompt that also asks for an answer that meets a schema.
pub(crate) fn asked_to_answer(prompt: &str, schema: &Value) -> String {
    format!(
        "{prompt}\n\nYour last message has to be one JSON document that meets this JSON schema, and nothing else: no \
         words around it, no code fence.\n\n{schema}\n"
    )
}

/// The JSON document that a text is, or that stands in its only code fence.
pub(crate) fn answer_in(text: &str) -> Option<Value> {
    let document = |text: &str| serde_json::from_str::<Value>(text.trim()).ok().filter(|value| value.is_object());
    if let Some(value) = document(text) {
        return Some(value);
    }
    let mut fences = text.split("```").skip(1).step_by(2);
    let (only, more) = (fences.next()?, fences.next());
    if more.is_some() {
        return None;
    }
    document(only.strip_prefix("json").unwrap_or(only))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn an_answer_is_the_whole_text_or_its_only_fence() {
        assert_eq!(answer_in(" {\"a\": 1}\n"), Some(json!({"a": 1})));
        assert_eq!(answer_in("Here it is:\n```json\n{\"a\": 1}\n```\nDone."), Some(json!({"a": 1})));
        assert_eq!(answer_in("```\n{\"a\": 1}\n```"), Some(json!({"a": 1})));
    }

    #[test]
    fn prose_fragments_and_choices_are_no_answer() {
        for text in
            ["", "I cannot.", "[1]", "3", "{\"a\": NaN}", "```{\"a\":1}``` or ```{\"a\":2}```", "see {\"a\": 1}"]
        {
            assert_eq!(answer_in(text), None, "{text}");
        }
        assert_eq!(answer_in(&"[".repeat(100_000)), None);
    }
}
