//! A fake API server, Portolan behind real UDP sockets, kube's watcher, and a client that asks.

use super::asker::Asker;
use super::compare;
use super::world::World;
use crate::support::kube::oracle::Oracle;
use crate::support::kube::tls::Authority;
use crate::support::kube::{Api, Options};
use crate::support::proxy::Proxy;
use crate::support::server::TestServer;
use portolan::corefile::Error;
use portolan::plugin::{PluginEntry, Setup};
use portolan::plugins::kubernetes::index::Index;
use portolan::plugins::kubernetes::source::Timing;
use portolan::plugins::kubernetes::{Provided, setup_with};
use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, LazyLock, Mutex};
use std::time::Duration;

/// How long the index may take to become what the server has: generous, it only bounds failures.
const PATIENCE: Duration = Duration::from_secs(20);

/// Nothing but the plugin under test, with short waits.
const TABLE: &[PluginEntry] = &[PluginEntry {
    name: "kubernetes",
    summary: "",
    setup,
}];

/// What the setup and a lab tell each other: whether silence is to be noticed, then the index.
type Told = (bool, Option<Arc<Index>>);

/// Under the lab's kubeconfig file.
static LABS: LazyLock<Mutex<HashMap<String, Told>>> = LazyLock::new(Mutex::default);

fn setup(setup: &mut Setup<'_>) -> Result<(), Error> {
    let lines = &setup.directives[0].block;
    let file = lines.iter().find(|line| line.name.as_str() == "kubeconfig");
    let file = file.unwrap().args[0].as_str().to_owned();
    let watchful = LABS.lock().unwrap()[&file].0;
    let usual = Timing::default();
    let heard = Duration::from_millis(1000);
    let timing = Timing {
        pause: Duration::from_millis(5),
        longest_pause: Duration::from_millis(50),
        response: Duration::from_millis(1500),
        silence: match watchful {
            true => heard,
            false => usual.silence,
        },
        listing: match watchful {
            true => heard,
            false => usual.listing,
        },
        ..usual
    };
    setup_with(setup, timing)?;
    let provided = setup.provided.get::<Provided>().unwrap();
    let index = Some(Arc::clone(&provided.index));
    LABS.lock().unwrap().insert(file, (watchful, index));
    Ok(())
}

/// How the API server speaks.
#[derive(Clone, Copy, Debug, Default)]
pub struct Variant {
    pub protobuf: bool,
    pub tls: bool,
    /// Lists come in pages, for Portolan and for the oracle.
    pub paged: bool,
    /// Streams that are silent are given up soon. Where they are not, something else has to lead
    /// out of a fault.
    pub watchful: bool,
}

/// All of it.
pub struct Lab {
    pub world: World,
    pub proxy: Proxy,
    /// Kept; its hooks are for one thread at a time.
    _server: Mutex<TestServer>,
    index: Arc<Index>,
    oracle: Option<Oracle>,
    asker: Asker,
    folder: tempfile::TempDir,
}

impl Lab {
    /// Starts everything; `prepare` sees the API server before anybody else.
    pub async fn start(
        variant: Variant,
        with_oracle: bool,
        prepare: impl FnOnce(&mut World),
    ) -> Result<Self, String> {
        let folder = tempfile::tempdir().unwrap();
        let authority = variant.tls.then(|| Authority::new("first"));
        let ca = authority.as_ref().map(|authority| authority.pem.clone());
        let api = Api::start_with(Options {
            protobuf: variant.protobuf,
            authority,
            token: Some("first".into()),
            page: Some(7),
        })
        .await;
        api.faults().no_watch_list = variant.paged;
        let api = Arc::new(api);
        let proxy = Proxy::start(api.addr).await;
        let scheme = if variant.tls { "https" } else { "http" };
        let url = format!("{scheme}://{}", proxy.addr);
        let mut world = World::new(Arc::clone(&api));
        prepare(&mut world);

        let path = |name: &str| folder.path().join(name);
        std::fs::write(path("token"), "first").unwrap();
        std::fs::write(path("ca.pem"), ca.unwrap_or_default()).unwrap();
        let mut cluster = format!("server: '{url}'");
        if variant.tls {
            cluster += &format!(", certificate-authority: '{}'", path("ca.pem").display());
        }
        let config = format!(
            "apiVersion: v1\nkind: Config\ncurrent-context: c\n\
             clusters: [{{name: c, cluster: {{{cluster}}}}}]\n\
             users: [{{name: u, user: {{tokenFile: '{}'}}}}]\n\
             contexts: [{{name: c, context: {{cluster: c, user: u}}}}]\n",
            path("token").display()
        );
        let file = path("config").display().to_string();
        std::fs::write(&file, config).unwrap();
        let oracle = with_oracle.then(|| Oracle::start(&url, variant.paged));
        let corefile = format!(
            ".:0 {{\n kubernetes cluster.local in-addr.arpa {{\n \
             kubeconfig {file}\n pods verified\n startup_timeout 30s\n }}\n}}\n"
        );
        let told = (variant.watchful, None);
        LABS.lock().unwrap().insert(file.clone(), told);
        let server = TestServer::start(TABLE, &corefile).await;
        let index = LABS.lock().unwrap().remove(&file).unwrap().1.unwrap();
        if !index.is_synced() {
            return Err("not synced at start".into());
        }
        world.ledger.settle();
        let asker = Asker::start(server.addr(), Arc::clone(&world.ledger)).await;
        Ok(Self {
            world,
            proxy,
            _server: Mutex::new(server),
            index,
            oracle,
            asker,
            folder,
        })
    }

    pub fn api(&self) -> &Api {
        &self.world.api
    }

    /// Replaces the token, which alone is accepted from now on.
    pub fn rotate_token(&self, token: &str) {
        self.replace("token", token);
        self.api().options().token = Some(token.to_owned());
    }

    /// Replaces the authority; the file is new before the server is.
    pub fn rotate_authority(&self) {
        let authority = Authority::new("second");
        self.replace("ca.pem", &authority.pem);
        self.api().options().authority = Some(authority);
    }

    fn replace(&self, name: &str, text: &str) {
        let path = |name: &str| -> PathBuf { self.folder.path().join(name) };
        std::fs::write(path("new"), text).unwrap();
        std::fs::rename(path("new"), path(name)).unwrap();
    }

    /// Waits until index and oracle are what the server has; only the newest state is right then.
    pub async fn settle(&self) -> Result<(), String> {
        let same = || {
            compare::index_and_server(&self.index, self.api())?;
            match &self.oracle {
                Some(oracle) => compare::oracle_and_server(oracle, self.api()),
                None => Ok(()),
            }
        };
        let end = tokio::time::Instant::now() + PATIENCE;
        while let Err(difference) = same() {
            self.asker.verdict()?;
            if tokio::time::Instant::now() > end {
                return Err(format!("never became the same:\n{difference}"));
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        self.world.ledger.settle();
        // Twice all questions: each was asked after this.
        let (enough, questions) = (self.asker.answered(), self.world.ledger.questions().len());
        while self.asker.answered() < enough + 2 * questions {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        self.asker.verdict()
    }
}
