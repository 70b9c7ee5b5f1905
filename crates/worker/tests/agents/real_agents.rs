//! Which agent is put to which test.
//!
//! Every agent is put to every test that it can be put to. Claude Code holds its model to the schema itself, so
//! that a wrong answer never reaches us; Gemini CLI and opencode offer their models no tools that are not listed,
//! so that none is refused. Behind ACP, Gemini CLI loses a session that it is to load in the minute in which it was
//! begun, and `codex-acp` runs no commands in our sandbox; opencode behind ACP asks a model that is not there for
//! minutes. All of it on SQLite; on PostgreSQL what depends on what the ledger says: planning, executing, reviewing,
//! being killed and going on; by Landlock, which stands in where bubblewrap is missing, what depends on the sandbox.

mod agent;
mod broker;
mod escape;
mod fall_back;
mod house;
mod permission;
mod review;
mod stopping;
mod tools;
mod trouble;
mod work;

use agent::Agent;

/// Puts an agent to tests, each by its name.
macro_rules! put {
    ($module:ident by Landlock: $agent:expr => $($room:ident::$test:ident),* $(,)?) => {
        mod $module {
            $( #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $test() { super::house::LANDLOCK.scope((), super::$room::$test($agent)).await; } )*
        }
    };
    ($module:ident: $agent:expr => $($room:ident::$test:ident),* $(,)?) => {
        mod $module {
            $( #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $test() { super::$room::$test($agent).await; } )*
        }
    };
    ($module:ident on $ledger:ident: $agent:expr => $($room:ident::$test:ident),* $(,)?) => {
        mod $module {
            $( #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $test() {
                super::house::LEDGER.scope(super::house::Ledger::$ledger, super::$room::$test($agent)).await;
            } )*
        }
    };
}

put! { codex: super::Agent::Codex =>
    fall_back::one_that_is_spent_is_followed_by_another,
    review::what_it_passes_is_integrated,
    review::what_it_fails_stays_off_the_branch,
    review::a_verdict_that_is_none_is_given_back_once,
    work::it_plans_and_its_answer_is_held_to_the_schema,
    work::a_wrong_answer_is_given_back_once_for_correction,
    work::its_tool_writes_a_file_that_pilothouse_commits,
    trouble::a_busy_model_is_asked_again,
    trouble::a_used_up_quota_is_a_reason_to_stop,
    trouble::a_dead_model_is_tried_again_later_and_nothing_stays_behind,
    trouble::a_silent_model_is_given_up_after_the_idle_limit,
    trouble::a_cut_stream_is_taken_up_again,
    stopping::it_is_cancelled_in_the_middle_of_a_tool,
    stopping::killed_it_fails_and_its_tool_goes_with_it,
    stopping::its_session_goes_on_after_its_supervisor_was_killed,
    broker::the_key_stays_with_the_broker_which_meters_the_wire,
    broker::a_used_up_budget_ends_the_attempt,
    escape::nothing_is_reached,
    permission::what_people_allow_is_done,
    permission::what_people_deny_is_not_done,
    permission::its_question_outlives_the_worker,
    permission::it_is_cancelled_while_it_waits,
    tools::its_server_of_tools_answers,
    tools::its_server_over_http_is_reached_from_its_sandbox,
    tools::it_is_kept_to_the_tools_that_were_named,
    tools::without_its_server_it_does_not_begin,
    permission::what_is_not_allowed_is_denied_and_told,
}

put! { codex_server: super::Agent::CodexServer =>
    review::what_it_passes_is_integrated,
    review::what_it_fails_stays_off_the_branch,
    work::it_plans_and_its_answer_is_held_to_the_schema,
    work::a_wrong_answer_is_given_back_once_for_correction,
    work::its_tool_writes_a_file_that_pilothouse_commits,
    trouble::a_busy_model_is_asked_again,
    trouble::a_used_up_quota_is_a_reason_to_stop,
    stopping::it_is_cancelled_in_the_middle_of_a_tool,
    stopping::its_session_goes_on_after_its_supervisor_was_killed,
    tools::its_server_of_tools_answers,
    tools::its_server_over_http_is_reached_from_its_sandbox,
    trouble::a_dead_model_is_tried_again_later_and_nothing_stays_behind,
    trouble::a_silent_model_is_given_up_after_the_idle_limit,
    trouble::a_cut_stream_is_taken_up_again,
    stopping::killed_it_fails_and_its_tool_goes_with_it,
}

put! { claude: super::Agent::Claude =>
    review::what_it_passes_is_integrated,
    review::what_it_fails_stays_off_the_branch,
    work::it_plans_and_its_answer_is_held_to_the_schema,
    work::its_tool_writes_a_file_that_pilothouse_commits,
    trouble::a_busy_model_is_asked_again,
    trouble::a_used_up_quota_is_a_reason_to_stop,
    trouble::a_dead_model_is_tried_again_later_and_nothing_stays_behind,
    trouble::a_silent_model_is_given_up_after_the_idle_limit,
    trouble::a_cut_stream_is_taken_up_again,
    stopping::it_is_cancelled_in_the_middle_of_a_tool,
    stopping::killed_it_fails_and_its_tool_goes_with_it,
    stopping::its_session_goes_on_after_its_supervisor_was_killed,
    permission::what_is_not_allowed_is_denied_and_told,
    broker::the_key_stays_with_the_broker_which_meters_the_wire,
    broker::a_used_up_budget_ends_the_attempt,
    escape::nothing_is_reached,
    permission::what_people_allow_is_done,
    permission::what_people_deny_is_not_done,
    permission::its_question_outlives_the_worker,
    permission::its_question_dies_with_it,
    permission::it_is_cancelled_while_it_waits,
    tools::its_server_of_tools_answers,
    tools::its_server_over_http_is_reached_from_its_sandbox,
    tools::it_is_kept_to_the_tools_that_were_named,
}

put! { opencode: super::Agent::Opencode =>
    review::what_it_passes_is_integrated,
    review::what_it_fails_stays_off_the_branch,
    work::it_plans_and_its_answer_is_held_to_the_schema,
    work::its_tool_writes_a_file_that_pilothouse_commits,
    trouble::a_used_up_quota_is_a_reason_to_stop,
    stopping::it_is_cancelled_in_the_middle_of_a_tool,
    broker::the_key_stays_with_the_broker_which_meters_the_wire,
    trouble::a_busy_model_is_asked_again,
    trouble::a_dead_model_is_tried_again_later_and_nothing_stays_behind,
    trouble::a_silent_model_is_given_up_after_the_idle_limit,
    trouble::a_cut_stream_is_taken_up_again,
    stopping::killed_it_fails_and_its_tool_goes_with_it,
    stopping::its_session_goes_on_after_its_supervisor_was_killed,
    tools::its_server_of_tools_answers,
    tools::its_server_over_http_is_reached_from_its_sandbox,
    tools::it_is_kept_to_the_tools_that_were_named,
    permission::what_is_not_listed_is_not_offered,
}

put! { gemini: super::Agent::Gemini =>
    review::what_it_passes_is_integrated,
    review::what_it_fails_stays_off_the_branch,
    review::a_verdict_that_is_none_is_given_back_once,
    work::it_plans_and_its_answer_is_held_to_the_schema,
    work::a_wrong_answer_is_given_back_once_for_correction,
    work::its_tool_writes_a_file_that_pilothouse_commits,
    trouble::a_busy_model_is_asked_again,
    stopping::it_is_cancelled_in_the_middle_of_a_tool,
    broker::the_key_stays_with_the_broker_which_meters_the_wire,
    trouble::a_used_up_quota_is_a_reason_to_stop,
    trouble::a_dead_model_is_tried_again_later_and_nothing_stays_behind,
    trouble::a_silent_model_is_given_up_after_the_idle_limit,
    stopping::killed_it_fails_and_its_tool_goes_with_it,
    stopping::its_session_goes_on_after_its_supervisor_was_killed,
    tools::its_server_of_tools_answers,
    tools::its_server_over_http_is_reached_from_its_sandbox,
    tools::it_is_kept_to_the_tools_that_were_named,
    trouble::a_cut_stream_is_taken_up_again,
    permission::what_is_not_listed_is_not_offered,
}

put! { acp_gemini: super::Agent::AcpGemini =>
    review::what_it_passes_is_integrated,
    review::what_it_fails_stays_off_the_branch,
    work::it_plans_and_its_answer_is_held_to_the_schema,
    work::its_tool_writes_a_file_that_pilothouse_commits,
    stopping::it_is_cancelled_in_the_middle_of_a_tool,
    permission::what_is_not_allowed_is_denied_and_told,
    permission::what_people_allow_is_done,
    trouble::a_busy_model_is_asked_again,
    trouble::a_used_up_quota_is_a_reason_to_stop,
    trouble::a_dead_model_is_tried_again_later_and_nothing_stays_behind,
    trouble::a_silent_model_is_given_up_after_the_idle_limit,
    tools::its_server_of_tools_answers,
    tools::its_server_over_http_is_reached_from_its_sandbox,
    trouble::a_cut_stream_is_taken_up_again,
    stopping::killed_it_fails_and_its_tool_goes_with_it,
    permission::what_people_deny_is_not_done,
}

put! { acp_claude: super::Agent::AcpClaude =>
    work::its_tool_writes_a_file_that_pilothouse_commits,
    permission::what_is_not_allowed_is_denied_and_told,
    permission::what_people_allow_is_done,
    permission::what_people_deny_is_not_done,
    permission::its_question_outlives_the_worker,
    tools::its_server_of_tools_answers,
    tools::its_server_over_http_is_reached_from_its_sandbox,
    trouble::a_busy_model_is_asked_again,
    trouble::a_used_up_quota_is_a_reason_to_stop,
    trouble::a_dead_model_is_tried_again_later_and_nothing_stays_behind,
    trouble::a_silent_model_is_given_up_after_the_idle_limit,
    trouble::a_cut_stream_is_taken_up_again,
    stopping::it_is_cancelled_in_the_middle_of_a_tool,
    stopping::killed_it_fails_and_its_tool_goes_with_it,
    stopping::its_session_goes_on_after_its_supervisor_was_killed,
}

put! { acp_codex: super::Agent::AcpCodex =>
    work::its_tool_writes_a_file_that_pilothouse_commits,
    tools::its_server_of_tools_answers,
    work::it_plans_and_its_answer_is_held_to_the_schema,
    trouble::a_busy_model_is_asked_again,
    trouble::a_used_up_quota_is_a_reason_to_stop,
    trouble::a_silent_model_is_given_up_after_the_idle_limit,
    trouble::a_cut_stream_is_taken_up_again,
}

put! { acp_opencode: super::Agent::AcpOpencode =>
    work::its_tool_writes_a_file_that_pilothouse_commits,
    permission::what_people_deny_is_not_done,
    tools::its_server_of_tools_answers,
    tools::its_server_over_http_is_reached_from_its_sandbox,
    work::it_plans_and_its_answer_is_held_to_the_schema,
    trouble::a_busy_model_is_asked_again,
    trouble::a_silent_model_is_given_up_after_the_idle_limit,
    trouble::a_cut_stream_is_taken_up_again,
    stopping::it_is_cancelled_in_the_middle_of_a_tool,
    stopping::killed_it_fails_and_its_tool_goes_with_it,
    stopping::its_session_goes_on_after_its_supervisor_was_killed,
}

put! { codex_on_postgres on Postgres: super::Agent::Codex =>
    fall_back::one_that_is_spent_is_followed_by_another,
    review::what_it_passes_is_integrated,
    review::what_it_fails_stays_off_the_branch,
    work::it_plans_and_its_answer_is_held_to_the_schema,
    work::its_tool_writes_a_file_that_pilothouse_commits,
    stopping::killed_it_fails_and_its_tool_goes_with_it,
    stopping::its_session_goes_on_after_its_supervisor_was_killed,
}

put! { claude_on_postgres on Postgres: super::Agent::Claude =>
    review::what_it_passes_is_integrated,
    review::what_it_fails_stays_off_the_branch,
    work::it_plans_and_its_answer_is_held_to_the_schema,
    work::its_tool_writes_a_file_that_pilothouse_commits,
    stopping::killed_it_fails_and_its_tool_goes_with_it,
    stopping::its_session_goes_on_after_its_supervisor_was_killed,
}

put! { opencode_on_postgres on Postgres: super::Agent::Opencode =>
    work::it_plans_and_its_answer_is_held_to_the_schema,
    work::its_tool_writes_a_file_that_pilothouse_commits,
    stopping::killed_it_fails_and_its_tool_goes_with_it,
    stopping::its_session_goes_on_after_its_supervisor_was_killed,
}

put! { gemini_on_postgres on Postgres: super::Agent::Gemini =>
    work::it_plans_and_its_answer_is_held_to_the_schema,
    work::its_tool_writes_a_file_that_pilothouse_commits,
    stopping::killed_it_fails_and_its_tool_goes_with_it,
    stopping::its_session_goes_on_after_its_supervisor_was_killed,
}

put! { acp_gemini_on_postgres on Postgres: super::Agent::AcpGemini =>
    work::it_plans_and_its_answer_is_held_to_the_schema,
    work::its_tool_writes_a_file_that_pilothouse_commits,
}

put! { codex_by_landlock by Landlock: super::Agent::Codex =>
    work::its_tool_writes_a_file_that_pilothouse_commits,
    stopping::it_is_cancelled_in_the_middle_of_a_tool,
    tools::its_server_over_http_is_reached_from_its_sandbox,
}

put! { claude_by_landlock by Landlock: super::Agent::Claude =>
    work::its_tool_writes_a_file_that_pilothouse_commits,
    stopping::its_session_goes_on_after_its_supervisor_was_killed,
}

put! { opencode_by_landlock by Landlock: super::Agent::Opencode =>
    work::its_tool_writes_a_file_that_pilothouse_commits,
}

put! { gemini_by_landlock by Landlock: super::Agent::Gemini =>
    work::its_tool_writes_a_file_that_pilothouse_commits,
    stopping::killed_it_fails_and_its_tool_goes_with_it,
}

put! { acp_gemini_by_landlock by Landlock: super::Agent::AcpGemini =>
    work::its_tool_writes_a_file_that_pilothouse_commits,
    permission::what_people_allow_is_done,
}

put! { acp_codex_by_landlock by Landlock: super::Agent::AcpCodex =>
    work::its_tool_writes_a_file_that_pilothouse_commits,
}
