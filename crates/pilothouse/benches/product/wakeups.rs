//! What it costs a node to tell others that something is ready, while 64 callers commit and another node listens.

use store::{Store, StoreConfig};
use testkit::{
    bench::{load, series::Sample},
    database::Database,
};

use crate::{Measured, Plan, place::server};

const CALLERS: usize = 64;

pub(crate) async fn measure(plan: Plan) -> Measured {
    let database = Database::create(&server()?).await.map_err(|error| error.to_string())?;
    let mark = if database.url().contains('?') { '&' } else { '?' };
    let without = format!("{}{mark}pilothouse_wakeups=off", database.url());
    let measured = async {
        // Without, with, with, without: what the database grows meanwhile is shared between them.
        let mut rates = [0.0; 4];
        for (rate, url) in rates.iter_mut().zip([&without, &database.url(), &database.url(), &without]) {
            *rate = beside_another(url, plan).await?;
        }
        Ok::<_, String>(Sample::beside(rates[1] + rates[2], rates[0] + rates[3]))
    }
    .await;
    // The server is thrown away afterwards, or its owner sees what was left behind.
    drop(database.drop_now().await);
    let halved = measured?;
    Ok(Sample { value: halved.value / 2.0, limit: halved.limit.map(|limit| limit / 2.0), note: None })
}

async fn beside_another(url: &str, plan: Plan) -> Result<f64, String> {
    let config = StoreConfig::Postgres { url: url.to_owned() };
    let open = async || Store::open(&config).await.map_err(|error| error.to_string());
    let (store, other) = (open().await?, open().await?);
    let measured = load::decide(&store, CALLERS, plan.span).await;
    store.close().await;
    other.close().await;
    Ok(measured.map_err(|error| error.to_string())?.per_second)
}
