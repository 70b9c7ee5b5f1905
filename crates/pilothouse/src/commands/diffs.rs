//! What a step's result changes: the patch itself, or how much it is.

use api::protocols::StepDiffView;
use client::Client;

use super::Context;
use crate::{
    failure::{Exit, Failure, Result},
    output::{has_colours, print_clean, print_raw, say},
};

pub(super) async fn show(context: &Context, client: &Client, step: i64, stat: bool) -> Result {
    let diff = client.get_step_diff(step, !stat).await?;
    if stat || context.output.json {
        return context.output.one("diff", &diff, || stat_of(&diff));
    }
    let Some(patch) = &diff.patch else {
        return Err(Failure::new(Exit::NotFound, format!("the patch of step {step} is not on the server's machine"))
            .remedy(format!("It is kept where the attempt ran, as long as its output; `pilothouse step diff {step} --stat` tells how much it is.")));
    };
    if patch.is_empty() {
        say("nothing changed");
        return Ok(());
    }
    if has_colours() {
        return print_raw(paint(&host::text::clean(patch)).as_bytes());
    }
    print_clean(patch)
}

fn stat_of(diff: &StepDiffView) -> String {
    let mut text = diff.lines.join("\n");
    if !text.is_empty() {
        text.push('\n');
    }
    text.push_str(&format!("{} files, +{} -{}", diff.files, diff.insertions, diff.deletions));
    text
}

/// A patch as terminals show it: headers bold, places cyan, what came green, what went red.
fn paint(patch: &str) -> String {
    let mut painted = String::with_capacity(patch.len() * 2);
    // A line that begins with dashes is a header only outside of a hunk.
    let mut in_hunk = false;
    for line in patch.lines() {
        let style = match line.as_bytes().first() {
            Some(b'@') => {
                in_hunk = true;
                "36"
            }
            Some(b'+') if in_hunk => "32",
            Some(b'-') if in_hunk => "31",
            Some(b' ' | b'\\') | None if in_hunk => "",
            Some(_) => {
                in_hunk = false;
                "1"
            }
            None => "",
        };
        if style.is_empty() {
            painted.push_str(line);
        } else {
            painted.push_str(&format!("\u{1b}[{style}m{line}\u{1b}[0m"));
        }
        painted.push('\n');
    }
    painted
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_patch_is_painted_by_what_its_lines_are() {
        let patch = "diff --git a/x b/x\n--- a/x\n+++ b/x\n@@ -1,2 +1,2 @@\n same\n--- no header\n+new\n\
                     diff --git a/y b/y\nBinary files a/y and b/y differ\n";

        let painted = paint(patch).replace('\u{1b}', "^");

        assert_eq!(
            painted,
            "^[1mdiff --git a/x b/x^[0m\n^[1m--- a/x^[0m\n^[1m+++ b/x^[0m\n^[36m@@ -1,2 +1,2 @@^[0m\n same\n\
             ^[31m--- no header^[0m\n^[32m+new^[0m\n^[1mdiff --git a/y b/y^[0m\n\
             ^[1mBinary files a/y and b/y differ^[0m\n"
        );
    }
}
