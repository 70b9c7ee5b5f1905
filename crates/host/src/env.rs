//! The environment of this process, read by name. Nobody copies all of it into a child.

/// The value of one variable; a value that is not UTF-8 counts as absent.
pub fn var(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

/// The variables of this list that are set, in its order, with their names.
pub fn vars_named(names: &[&str]) -> Vec<(String, String)> {
    names.iter().filter_map(|name| var(name).map(|value| ((*name).to_owned(), value))).collect()
}

/// The names of all variables that start with `prefix`, sorted.
pub fn names_with_prefix(prefix: &str) -> Vec<String> {
    let mut names: Vec<String> =
        std::env::vars_os().filter_map(|(name, _)| name.into_string().ok()).filter(|n| n.starts_with(prefix)).collect();
    names.sort();
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_variables_that_are_set_are_listed() {
        let path = var("PATH").unwrap();
        assert_eq!(vars_named(&["PILOTHOUSE_SURELY_NOT_SET", "PATH"]), [("PATH".to_owned(), path)]);
    }
}
