//! Take-overs from a process that was told to stop, or that another user runs.

use super::*;

/// A process that has the sockets may serve with them: their files stay if the old one is told to stop before it hears that.
#[tokio::test]
async fn a_process_that_is_told_to_stop_during_a_take_over_leaves_the_files_of_its_sockets() {
    let registry = TestRegistry::start().await;
    let made = TestGate::new(&registry, ALLOW_ALL);
    let files = ["admin.sock", "next.sock"].map(|name| made.path().join("state").join(name));
    let running = Program::start(&made).await;
    let mut next = UnixStream::connect(&files[1]).await.unwrap();
    assert!(soon(next.read(&mut vec![0; 4096])).await.unwrap() > 0);
    assert!(running.stop().await.success());
    assert!(files.iter().all(|file| file.exists()));
    drop(next);
    // Nobody has taken them.
    let running = Program::start(&made).await;
    assert!(UnixStream::connect(&files[0]).await.is_ok());
    // A process that has looked at the sockets, and gone, changes nothing.
    let mut next = UnixStream::connect(&files[1]).await.unwrap();
    assert!(soon(next.read(&mut vec![0; 4096])).await.unwrap() > 0);
    drop(next);
    soon(async {
        while !running.log().contains("was to take over has exited") {
            tokio::task::yield_now().await;
        }
    })
    .await;
    assert!(running.stop().await.success());
    assert!(!files.iter().any(|file| file.exists()));
}

/// A gate that passes these sockets to the next process that asks, and ends before it is told anything.
fn predecessor(socket: UnixListener, label: String, passed: &impl AsFd) -> std::thread::JoinHandle<()> {
    let passed = passed.as_fd().try_clone_to_owned().unwrap();
    std::thread::spawn(move || {
        let (stream, _) = socket.accept().unwrap();
        let text = format!("[\"{label}\"]\n");
        let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        let rights = [passed.as_fd()];
        assert!(control.push(SendAncillaryMessage::ScmRights(&rights)));
        let text = [std::io::IoSlice::new(text.as_bytes())];
        sendmsg(&stream, &text, &mut control, SendFlags::NOSIGNAL).unwrap();
    })
}

/// The next process serves with the sockets of one that has ended meanwhile, its admin socket included.
#[tokio::test]
async fn a_process_serves_with_the_sockets_of_one_that_was_told_to_stop() {
    let registry = TestRegistry::start().await;
    let made = TestGate::new(&registry, ALLOW_ALL);
    let state = made.path().join("state");
    std::fs::create_dir(&state).unwrap();
    let admin = UnixListener::bind(state.join("admin.sock")).unwrap();
    let label = state.join("admin.sock").display().to_string();
    let old = predecessor(UnixListener::bind(state.join("next.sock")).unwrap(), label, &admin);
    drop(admin);
    let running = Program::take_over(&made, 0).await;
    old.join().unwrap();
    assert!(UnixStream::connect(state.join("admin.sock")).await.is_ok());
    assert!(running.stop().await.success());
    assert!(!state.join("admin.sock").exists());
}

/// Whoever can put a socket there must not pass listeners to the next process.
#[tokio::test]
async fn sockets_of_another_user_are_refused() {
    if !rustix::process::geteuid().is_root() {
        println!("skipped: only root can become another user");
        return;
    }
    let registry = TestRegistry::start().await;
    let made = TestGate::new(&registry, ALLOW_ALL);
    let state = made.path().join("state");
    std::fs::create_dir(&state).unwrap();
    let path = state.join("next.sock");
    let listen = move || {
        let socket = socket(AddressFamily::UNIX, SocketType::STREAM, None).unwrap();
        bind(&socket, &SocketAddrUnix::new(&path).unwrap()).unwrap();
        // Of this thread alone; the user of a socket is the one that listens.
        set_thread_res_uid(None::<Uid>, Some(Uid::from_raw(65534)), None::<Uid>).unwrap();
        listen(&socket, 1).unwrap();
        socket
    };
    let socket = std::thread::spawn(listen).join().unwrap();
    made.config();
    let refused = Program::refused(&made, "true", &["--take-over"]).await;
    assert!(refused.contains("it runs as user 65534, and this process as user 0"), "{refused}");
    drop(socket);
}
