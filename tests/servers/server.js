// A real Socket.IO server for the tests: `node server.js VERSION [JSON options]`.
//
// VERSION is `2.0`, `2.5` or `4`. Prints one JSON line, {"port":…,"version":…}, when it listens, and one for each thing
// that a test may want to know ({"event":"connect",…}). Ends when its standard input ends, so that no server outlives
// its test.
//
// Options (all optional):
//   port            port to listen on; 0 chooses one
//   pingInterval, pingTimeout   milliseconds
//   allowEIO3       4 only: whether Engine.IO 3 clients may come in
//   token           the only token that is let in; without it every token is
//   refuse          what happens to other tokens on /chat: "string" | "object" | "root" | "http" | "silence"
//   rootMiddleware  milliseconds that a middleware of the root namespace takes (0: none)
//   spaces          ids that may be subscribed to; without it every id may
//   maxBytes        largest message that the server takes
//   tellMessages    whether to print a line for each message that is taken
'use strict';

const http = require('http');
const readline = require('readline');

const PACKAGES = { '2.0': 'socketio2_0', '2.5': 'socketio2_5', 4: 'socketio4' };

const version = process.argv[2];
const options = JSON.parse(process.argv[3] || '{}');
if (!PACKAGES[version]) {
  console.error(`unknown version ${version}; choose one of ${Object.keys(PACKAGES).join(', ')}`);
  process.exit(2);
}

const print = (line) => process.stdout.write(JSON.stringify(line) + '\n');

const settings = {
  pingInterval: options.pingInterval || 25000,
  pingTimeout: options.pingTimeout || 20000,
};
if (options.maxBytes) settings.maxHttpBufferSize = options.maxBytes;
if (version === '4') settings.allowEIO3 = Boolean(options.allowEIO3);
else settings.wsEngine = 'ws';
if (options.refuse === 'http') {
  settings.allowRequest = (request, done) => {
    const query = new URL(request.url, 'http://localhost').searchParams;
    // Engine.IO 3 wants the number of its error, Engine.IO 4 a text or nothing.
    done(version === '4' ? null : 4, !options.token || query.get('token') === options.token);
  };
}

const server = http.createServer();
const { Server } = require(PACKAGES[version]);
const io = version === '4' ? new Server(server, settings) : require(PACKAGES[version])(server, settings);

// Both copies of the token: of the URL, and of the CONNECT packet (query in Engine.IO 3, auth object in 4).
const tokenOf = (socket) => {
  const { query = {}, auth = {} } = socket.handshake;
  return query.token || auth.token;
};

const refusal = () => {
  const error = new Error('Not authorized');
  if (options.refuse === 'object') error.data = { status: 401, reason: 'expired' };
  return error;
};

let refusals = 0;
const admitted = (socket) => {
  if (refusals > 0) {
    refusals -= 1;
    return false;
  }
  return !options.token || tokenOf(socket) === options.token;
};

if (options.rootMiddleware) {
  io.use((_socket, next) => setTimeout(next, options.rootMiddleware));
}
if (options.refuse === 'root') {
  io.use((socket, next) => next(admitted(socket) ? undefined : new Error('root refused')));
}

const chat = io.of('/chat');
chat.use((socket, next) => {
  if (admitted(socket)) return next();
  if (options.refuse === 'silence') return undefined;
  return next(refusal());
});

let messages = 0;
const hexId = (number) => number.toString(16).padStart(24, '0');

// Like the service that the tests stand in for: one object per event, success and failure as separate events.
chat.on('connection', (socket) => {
  const { query = {}, auth = {} } = socket.handshake;
  print({ event: 'connect', id: socket.id, urlToken: query.token, authToken: auth.token });
  socket.on('disconnect', (reason) => print({ event: 'disconnect', id: socket.id, reason }));

  const subscribed = new Set();
  socket.on('SUBSCRIBE_CHANNEL', (request) => {
    const channel = request && request.channel;
    const fail = (code, message) => socket.emit('SUBSCRIBE_CHANNEL_FAILED', { ...request, error: { code, message } });
    if (!channel || !channel._id) return fail('invalid.parameters', 'channel data was not provided');
    if (options.spaces && !options.spaces.includes(channel._id)) return fail('not.found', 'no such channel');
    subscribed.add(channel._id);
    socket.join(channel._id);
    return socket.emit('CHANNEL_SUBSCRIBED', {
      channel: { _id: channel._id, type: channel.type },
      dtsid: '7781',
      sessionId: socket.id,
    });
  });
  socket.on('UNSUBSCRIBE_CHANNEL', ({ channel }) => {
    subscribed.delete(channel._id);
    socket.leave(channel._id);
    socket.emit('CHANNEL_UNSUBSCRIBED', { channel });
  });
  socket.on('SEND_MESSAGE', (message, acknowledge) => {
    if (typeof acknowledge === 'function') acknowledge({ ok: true, id: `m${messages}` });
    if (!message || !subscribed.has(message.topicId)) {
      return socket.emit('SEND_MESSAGE_FAILED', { ...message, error: 'app.event.channel.subscription.required' });
    }
    messages += 1;
    if (options.tellMessages) print({ event: 'message', text: message.content.bodyText });
    const { loopbackMetadata, ...shared } = message;
    const complete = {
      ...shared,
      _id: hexId(messages),
      created: new Date().toISOString(),
      topicTitle: `Space ${message.topicId}`,
      topicType: 'group',
      sender: {
        _id: hexId(0xa11ce),
        type: 'user',
        username: 'alice@example.com',
        displayname: 'Alice Example',
        picture_url: 'https://accounts.example/alice.jpg',
        ...message.sender,
      },
    };
    socket.to(message.topicId).emit('MESSAGE_SENT', complete);
    return socket.emit('MESSAGE_SENT', { ...complete, ...(loopbackMetadata === undefined ? {} : { loopbackMetadata }) });
  });

  // For tests of the protocol alone.
  socket.on('echo', (...args) => {
    const acknowledge = typeof args[args.length - 1] === 'function' ? args.pop() : undefined;
    if (acknowledge) acknowledge(...args);
    else socket.emit('echo', ...args);
  });
  socket.on('sink', () => {});
  socket.on('ask', (question) => socket.emit('question', question, (...answers) => socket.emit('answered', ...answers)));
  socket.on('binary', () => socket.emit('binary', Buffer.from([1, 2, 3]), { after: Buffer.from([4]) }));
  socket.on('binary-ack', (acknowledge) => acknowledge(Buffer.from([1, 2, 3])));
  socket.on('burst', (count) => {
    for (let index = 0; index < count; index += 1) socket.emit('burst', index);
  });
  socket.on('kick', (whole) => socket.disconnect(Boolean(whole)));
  socket.on('cut', () => cut(socket));
  socket.on('freeze', () => {
    const stream = socket.conn.transport.socket._socket;
    stream.pause();
    stream.write = () => true;
  });
});

server.listen(options.port || 0, '127.0.0.1', () => {
  print({ port: server.address().port, version: require(`${PACKAGES[version]}/package.json`).version });
});

const cut = (socket) => (socket.conn.transport.socket._socket || socket.conn.transport.socket).destroy();
const everybody = () => (version === '4' ? [...chat.sockets.values()] : Object.values(chat.connected));

// Commands from the test, one a line: a word, and what it is about if it needs that.
const commands = readline.createInterface({ input: process.stdin });
commands.on('line', (line) => {
  if (line === 'close') io.close();
  if (line === 'cut') everybody().forEach(cut);
  if (line === 'kick') everybody().forEach((socket) => socket.disconnect(false));
  // The next one that wants to come in is not let in, whatever its token.
  if (line === 'refuse') refusals += 1;
  // Someone else has said something: the message follows as JSON.
  if (line.startsWith('say ')) {
    const message = JSON.parse(line.slice(4));
    chat.to(message.topicId).emit('MESSAGE_SENT', message);
  }
});
commands.on('close', () => process.exit(0));
