//! The longest files and functions, printed for interest (`cargo xtask check structure` shows them).

use super::tree::{Source, sources};

const SHOWN: usize = 10;

#[test]
fn the_longest_files_and_functions_are_printed() {
    let sources = sources();
    let mut files: Vec<(usize, &str)> = sources.iter().map(|s| (s.text.lines().count(), s.path.as_str())).collect();
    let mut functions: Vec<(usize, String)> = sources.iter().flat_map(functions).collect();
    files.sort_by(|left, right| right.cmp(left));
    functions.sort_by(|left, right| right.cmp(left));
    println!("longest files:");
    for (lines, path) in files.iter().take(SHOWN) {
        println!("  {lines:5}  {path}");
    }
    println!("longest functions:");
    for (lines, name) in functions.iter().take(SHOWN) {
        println!("  {lines:5}  {name}");
    }
    assert!(functions.len() > files.len(), "the functions were not found");
}

/// Every function with its length. The code is formatted, so a function ends at a brace indented as it began.
fn functions(source: &Source) -> Vec<(usize, String)> {
    let lines: Vec<&str> = source.text.lines().collect();
    let mut found = Vec::new();
    for (start, line) in lines.iter().enumerate() {
        let Some(name) = function_name(line) else { continue };
        let end = format!("{}}}", &line[..line.len() - line.trim_start().len()]);
        let length = lines[start..].iter().position(|line| *line == end).map_or(1, |last| last + 1);
        found.push((length, format!("{}:{} {name}", source.path, start + 1)));
    }
    found
}

fn function_name(line: &str) -> Option<&str> {
    let words = ["pub", "pub(crate)", "pub(super)", "const", "async", "unsafe"];
    let mut rest = line.trim_start();
    while let Some(shorter) = words.iter().find_map(|word| rest.strip_prefix(word)?.strip_prefix(' ')) {
        rest = shorter;
    }
    let name = rest.strip_prefix("fn ")?;
    name.split(['(', '<']).next()
}
