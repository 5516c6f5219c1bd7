//! The part of a machine that goes on while its process is paused, and closes its sockets when it dies.
//!
//! It is a host of the simulated network. The process runs on a runtime of its own and sees one end of a pipe for every
//! connection, so that it can be stopped between two instructions like a real one, with bytes waiting for it.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use apogee_model::ReplicaId;
use tokio::io::{self, AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use turmoil::net::{TcpListener, TcpStream};

/// The process's end of a connection.
pub(crate) type Socket = DuplexStream;

/// Bytes of a connection that wait for the process.
const SOCKET_BYTES: usize = 64 << 10;
/// Connections that wait for the process.
const BACKLOG: usize = 256;

/// What a process listens on.
#[derive(Copy, Clone)]
pub(crate) enum Port {
    /// Calls of proxies.
    Lanes,
    /// Calls of other replicas.
    Peers,
}

/// A connection that a process wants.
pub(crate) struct Dial {
    to: ReplicaId,
    socket: Socket,
    gone: CancellationToken,
}

/// What the process of the moment listens on.
#[derive(Clone)]
struct Listening {
    lanes: mpsc::Sender<Socket>,
    peers: mpsc::Sender<Socket>,
    gone: CancellationToken,
}

/// What a process gets from its kernel.
pub(crate) struct Sockets {
    pub(crate) lanes: mpsc::Receiver<Socket>,
    pub(crate) peers: mpsc::Receiver<Socket>,
    pub(crate) net: Net,
}

/// How a process reaches other replicas.
#[derive(Clone)]
pub(crate) struct Net {
    dials: mpsc::Sender<Dial>,
    gone: CancellationToken,
}

/// See the module. Clones share it.
#[derive(Clone)]
pub(crate) struct Kernel {
    process: Arc<Mutex<Option<Listening>>>,
    dials: mpsc::Sender<Dial>,
}

impl Port {
    pub(crate) fn number(self) -> u16 {
        match self {
            Port::Lanes => 10911,
            Port::Peers => 10912,
        }
    }
}

/// The name of the machine of a replica in the network.
pub(crate) fn host_of(replica: ReplicaId) -> String {
    format!("store-{replica}")
}

impl Net {
    /// A connection to the peers' port of another replica. What cannot be reached looks like a connection that ends.
    pub(crate) fn connect(&self, to: ReplicaId) -> Socket {
        let (ours, socket) = io::duplex(SOCKET_BYTES);
        // Too many at once are refused, which ends the pipe.
        let _refused = self.dials.try_send(Dial { to, socket, gone: self.gone.clone() });
        ours
    }
}

impl Kernel {
    /// A kernel, and the dials that [`Kernel::run`] shall serve.
    pub(crate) fn new() -> (Kernel, mpsc::Receiver<Dial>) {
        let (dials, dialled) = mpsc::channel(BACKLOG);
        (Kernel { process: Arc::default(), dials }, dialled)
    }

    /// A process starts.
    pub(crate) fn start(&self) -> Sockets {
        let ((lanes, lanes_inbox), (peers, peers_inbox)) = (mpsc::channel(BACKLOG), mpsc::channel(BACKLOG));
        let gone = CancellationToken::new();
        let net = Net { dials: self.dials.clone(), gone: gone.clone() };
        *self.process() = Some(Listening { lanes, peers, gone });
        Sockets { lanes: lanes_inbox, peers: peers_inbox, net }
    }

    /// The process is dead. Its connections end in the order in which they began.
    pub(crate) fn end(&self) {
        if let Some(process) = self.process().take() {
            process.gone.cancel();
        }
    }

    /// Carries bytes between the network and the process of the moment.
    pub(crate) async fn run(self, mut dials: mpsc::Receiver<Dial>) -> turmoil::Result {
        let lanes = TcpListener::bind(("0.0.0.0", Port::Lanes.number())).await?;
        let peers = TcpListener::bind(("0.0.0.0", Port::Peers.number())).await?;
        let mut relays = JoinSet::new();
        loop {
            tokio::select! {
                biased;
                Some(Dial { to, socket, gone }) = dials.recv() => {
                    relays.spawn_local(gone.run_until_cancelled_owned(dial(to, socket)));
                }
                accepted = lanes.accept() => self.accept(Port::Lanes, accepted?.0, &mut relays),
                accepted = peers.accept() => self.accept(Port::Peers, accepted?.0, &mut relays),
                Some(ended) = relays.join_next(), if !relays.is_empty() => drop(ended?),
            }
        }
    }

    /// Refuses when there is no process, or it has too many to look at.
    fn accept(&self, port: Port, stream: TcpStream, relays: &mut JoinSet<Option<()>>) {
        let Some(process) = self.process().clone() else { return };
        let inbox = match port {
            Port::Lanes => process.lanes,
            Port::Peers => process.peers,
        };
        let (theirs, socket) = io::duplex(SOCKET_BYTES);
        if inbox.try_send(theirs).is_ok() {
            relays.spawn_local(process.gone.run_until_cancelled_owned(answer(stream, socket)));
        }
    }

    fn process(&self) -> MutexGuard<'_, Option<Listening>> {
        self.process.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A connection to a port of a store's machine. As in the real world, and unlike in this network otherwise, there is
/// none before something came back.
pub(crate) async fn connect(to: ReplicaId, port: Port) -> io::Result<TcpStream> {
    let mut stream = TcpStream::connect((host_of(to), port.number())).await?;
    stream.read_u8().await?;
    Ok(stream)
}

async fn dial(to: ReplicaId, socket: Socket) {
    if let Ok(stream) = connect(to, Port::Peers).await {
        relay(stream, socket).await;
    }
}

async fn answer(mut stream: TcpStream, socket: Socket) {
    if stream.write_u8(1).await.is_ok() {
        relay(stream, socket).await;
    }
}

/// Until one side ends: nobody here half-closes.
async fn relay(stream: TcpStream, socket: Socket) {
    let (mut from_net, mut to_net) = stream.into_split();
    let (mut from_process, mut to_process) = io::split(socket);
    tokio::select! {
        biased;
        _ended = io::copy(&mut from_net, &mut to_process) => {}
        _ended = io::copy(&mut from_process, &mut to_net) => {}
    }
}
