//! The catalog in force: loaded from a file into the ledger, read from there by every node and worker.

use std::sync::{Arc, RwLock};

use domain::{
    actor::Actor,
    catalog::Catalog,
    current_catalog::{CURRENT, CatalogEvent, CurrentCatalog},
    decision::{Context, Decision},
    ids::GateId,
    run::{RunCommand, RunState},
};

use crate::{Cause, Changed, Control, error::CommandError, ledger::Rendered};

/// The catalog that was parsed last; parsing again is only needed when the ledger has another digest.
#[derive(Clone, Debug, Default)]
pub(crate) struct CatalogCache {
    parsed: Arc<RwLock<Option<Parsed>>>,
}

/// A catalog and the digest it was parsed from.
type Parsed = (String, Arc<Catalog>);

impl Control {
    /// The catalog in force; empty when none was loaded.
    pub async fn catalog(&self) -> Result<Arc<Catalog>, CommandError> {
        let Some(current) = self.store().known_catalog().await? else {
            return Ok(Arc::new(Catalog::empty()));
        };
        if let Ok(cache) = self.catalogs.parsed.read()
            && let Some((digest, catalog)) = cache.as_ref()
            && *digest == current.digest
        {
            return Ok(Arc::clone(catalog));
        }
        let catalog = Arc::new(parse(&current.text, &current.file)?);
        if let Ok(mut cache) = self.catalogs.parsed.write() {
            *cache = Some((current.digest, Arc::clone(&catalog)));
        }
        Ok(catalog)
    }

    /// Puts a catalog in force, and asks people again wherever a waiting run would now do something else.
    pub async fn load_catalog(&self, text: &str, file: &str) -> Result<Arc<Catalog>, CommandError> {
        let catalog = Arc::new(parse(text, file)?);
        self.put_in_force(&catalog, text, file).await?;
        host::failpoint!("control.catalog.loaded");
        // Also when the catalog is an old one: a crash may have come between loading it and asking again.
        self.rebind_waiting_runs(&catalog).await?;
        Ok(catalog)
    }

    /// Makes this text the one in force, unless it is already.
    async fn put_in_force(&self, catalog: &Catalog, text: &str, file: &str) -> Result<(), CommandError> {
        let cause = Cause::of(Actor::System);
        let loaded = |now| CatalogEvent::Loaded {
            catalog: CurrentCatalog {
                digest: catalog.digest().to_string(),
                text: text.to_owned(),
                file: file.to_owned(),
                loaded_at: now,
            },
        };
        if self.store().find_catalog().await?.is_none() {
            let created = self
                .create(
                    &cause,
                    |context| ("load_catalog", Decision::of([loaded(context.now)])),
                    |_: &CurrentCatalog| Rendered::default(),
                )
                .await;
            match created {
                // There is only one id for it: a node that started at the same moment was first.
                Err(CommandError::Contended) => {}
                created => return created.map(drop),
            }
        }
        let decide = |current: &CurrentCatalog, context: &Context| {
            let is_new = current.text != text;
            Ok::<_, CommandError>(if is_new { Decision::of([loaded(context.now)]) } else { Decision::nothing() })
        };
        self.command(CURRENT, &"load_catalog", &cause, decide, |_| Rendered::default()).await.map(drop)
    }

    /// Tells every run that waits for people what its request means in this catalog.
    async fn rebind_waiting_runs(&self, catalog: &Catalog) -> Result<(), CommandError> {
        let waiting = [RunState::AwaitingApproval { gate: GateId(String::new()) }.name().to_owned()];
        let mut after = None;
        loop {
            let page = self.store().list_runs(&waiting, after, 100).await?;
            let Some(last) = page.last() else { return Ok(()) };
            after = Some((last.created_at.as_micros(), last.id.to_string()));
            for run in &page {
                let job = catalog.find(&run.job.job).and_then(|job| job.bind(&run.job.params).ok());
                if job.as_ref().is_some_and(|job| job.digest().to_string() == run.digest) {
                    continue;
                }
                let job = job.map(Box::new);
                let rebind = |gate| RunCommand::Rebind { job: job.clone(), gate };
                let _: Changed<_, _> = self
                    .command_run_at_gate(&run.id, rebind, &Cause::of(Actor::System), |_| Rendered::default())
                    .await?;
            }
        }
    }
}

fn parse(text: &str, file: &str) -> Result<Catalog, CommandError> {
    Catalog::parse(text, file).map_err(|error| CommandError::Invalid {
        code: "catalog_invalid",
        problems: error.to_string().lines().map(str::to_owned).collect(),
    })
}
