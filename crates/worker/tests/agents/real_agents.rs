//! Which agent is put to which test.
//!
//! Every agent plans, executes, meets a busy and a dead model and is cancelled in the middle of a tool. opencode costs
//! five seconds of a core at each start and Gemini two, so what only repeats the supervisor's or the worker's own work is
//! left to Codex and Claude Code: silence, cut streams, kills and the way back from them. An ACP agent is tested through
//! our driver with four agents behind it; the faults of their models are those of the agents themselves. Claude Code holds
//! its model to the schema itself, so a wrong answer never reaches us.

mod agent;
mod broker;
mod escape;
mod house;
mod permission;
mod stopping;
mod trouble;
mod work;

use agent::Agent;

/// Puts an agent to tests, each by its name.
macro_rules! put {
    ($module:ident: $agent:expr => $($room:ident::$test:ident),* $(,)?) => {
        mod $module {
            $( #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $test() { super::$room::$test($agent).await; } )*
        }
    };
}

put! { codex: super::Agent::Codex =>
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
}

put! { codex_server: super::Agent::CodexServer =>
    work::it_plans_and_its_answer_is_held_to_the_schema,
    work::a_wrong_answer_is_given_back_once_for_correction,
    work::its_tool_writes_a_file_that_pilothouse_commits,
    trouble::a_busy_model_is_asked_again,
    trouble::a_used_up_quota_is_a_reason_to_stop,
    stopping::it_is_cancelled_in_the_middle_of_a_tool,
    stopping::its_session_goes_on_after_its_supervisor_was_killed,
}

put! { claude: super::Agent::Claude =>
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
}

put! { opencode: super::Agent::Opencode =>
    work::it_plans_and_its_answer_is_held_to_the_schema,
    work::its_tool_writes_a_file_that_pilothouse_commits,
    trouble::a_used_up_quota_is_a_reason_to_stop,
    stopping::it_is_cancelled_in_the_middle_of_a_tool,
    broker::the_key_stays_with_the_broker_which_meters_the_wire,
}

put! { gemini: super::Agent::Gemini =>
    work::it_plans_and_its_answer_is_held_to_the_schema,
    work::a_wrong_answer_is_given_back_once_for_correction,
    work::its_tool_writes_a_file_that_pilothouse_commits,
    trouble::a_busy_model_is_asked_again,
    stopping::it_is_cancelled_in_the_middle_of_a_tool,
    broker::the_key_stays_with_the_broker_which_meters_the_wire,
}

put! { acp_gemini: super::Agent::AcpGemini =>
    work::it_plans_and_its_answer_is_held_to_the_schema,
    work::its_tool_writes_a_file_that_pilothouse_commits,
    stopping::it_is_cancelled_in_the_middle_of_a_tool,
    permission::what_is_not_allowed_is_denied_and_told,
    permission::what_people_allow_is_done,
}

put! { acp_claude: super::Agent::AcpClaude =>
    work::its_tool_writes_a_file_that_pilothouse_commits,
    permission::what_is_not_allowed_is_denied_and_told,
    permission::what_people_allow_is_done,
    permission::what_people_deny_is_not_done,
    permission::its_question_outlives_the_worker,
}

put! { acp_codex: super::Agent::AcpCodex =>
    work::its_tool_writes_a_file_that_pilothouse_commits,
}

put! { acp_opencode: super::Agent::AcpOpencode =>
    work::its_tool_writes_a_file_that_pilothouse_commits,
    permission::what_people_deny_is_not_done,
}
