//! API tokens. A secret is printed once: alone on stdout, so that it can be piped to where it belongs.

use api::tokens::{NewTokenBody, TokenView};
use control::{Clock, Control};
use store::Store;

use super::Context;
use crate::{
    cli::TokenCommand,
    config::layers::Layer,
    failure::Result,
    node::{self, bootstrap, ledger},
    output::{fields, print_line, say},
};

pub(super) fn flags(flags: Layer, command: &TokenCommand) -> Result<Layer> {
    match command {
        TokenCommand::Bootstrap(args) | TokenCommand::Reset(args) => {
            Ok(flags.flag("--database-url", "database_url", args.database_url.as_deref())?)
        }
        TokenCommand::New { .. } | TokenCommand::List | TokenCommand::Revoke { .. } => Ok(flags),
    }
}

pub(super) async fn run(context: &Context, command: TokenCommand) -> Result {
    match command {
        TokenCommand::New { name, scopes, person, expires_in } => {
            let new = NewTokenBody { name, scopes, person, expires_in_days: expires_in };
            let made = context.client()?.create_token(&new).await?;
            if context.output.json {
                return context.output.one("token", &made, String::new);
            }
            say(&describe(&made.token));
            say("The secret is shown this once:");
            print_line(&made.secret)
        }
        TokenCommand::List => {
            let tokens = context.client()?.list_tokens().await?;
            let head = ["token", "name", "person", "scopes", "status", "expires"];
            context.output.list("tokens", &tokens.items, tokens.next_cursor.as_deref(), &head, |token| {
                vec![
                    token.id.clone(),
                    token.name.clone(),
                    token.person.clone(),
                    token.scopes.join(","),
                    token.status.clone(),
                    token.expires_at.clone().unwrap_or_else(|| "never".to_owned()),
                ]
            })
        }
        TokenCommand::Revoke { id } => {
            let token = context.client()?.revoke_token(&id).await?;
            context.output.one("token", &token, || describe(&token))
        }
        TokenCommand::Bootstrap(_) => by_hand(context, false).await,
        TokenCommand::Reset(_) => by_hand(context, true).await,
    }
}

/// Makes an admin token on this machine's ledger, or on the shared one.
async fn by_hand(context: &Context, reset: bool) -> Result {
    let settings = &context.settings;
    let data_dir = node::prepare(settings)?;
    let shared = settings.database_url().is_some();
    let store = ledger::open(&settings.store(&data_dir)).await?;
    let made = make(&store, &data_dir, reset, shared).await;
    store.close().await;
    let Some(secret) = made? else { return Ok(()) };
    if context.output.json {
        return context.output.one("token", &serde_json::json!({ "secret": secret }), String::new);
    }
    say("The secret is shown this once:");
    print_line(&secret)
}

/// On SQLite the secret goes to where the server keeps it; on PostgreSQL it is handed out.
async fn make(store: &Store, data_dir: &std::path::Path, reset: bool, shared: bool) -> Result<Option<String>> {
    let control = Control::new(store.clone(), Clock::default());
    if !reset && !shared {
        let path = bootstrap::bootstrap(&control, data_dir).await?;
        say(&format!("the admin token is in {}", path.display()));
        return Ok(None);
    }
    let secret =
        if reset { control.reset_admin_token().await? } else { bootstrap::bootstrap_by_hand(&control).await? };
    if shared {
        return Ok(Some(secret));
    }
    let path = data_dir.join(bootstrap::TOKEN_FILE);
    host::fs::write_atomic(&path, format!("{secret}\n").as_bytes())?;
    say(&format!("the new admin token is in {}; earlier ones are revoked", path.display()));
    Ok(None)
}

fn describe(token: &TokenView) -> String {
    fields([
        ("token", Some(token.id.clone())),
        ("name", Some(token.name.clone())),
        ("scopes", Some(token.scopes.join(","))),
        ("status", Some(token.status.clone())),
        ("expires", token.expires_at.clone()),
    ])
}
