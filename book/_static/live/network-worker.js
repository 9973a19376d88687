// Runs the network beside the page, so that the page answers while it computes.
// It receives { load } or { run } and sends { progress }, { loaded }, { answer } or
// { failed: { what, why } }.
const here = new URL(".", import.meta.url);
const runtime = new URL("../ort/", here);
let ort, session;

// Fetch a file and report its bytes as they come. The server may have packed it, and
// then its own number of bytes is another one: what counts is what arrives unpacked.
async function download(url, what) {
  try {
    const response = await fetch(url);
    if (!response.ok) throw new Error(`the server answers ${response.status}`);
    const reader = response.body.getReader();
    const pieces = [];
    for (;;) {
      const { done, value } = await reader.read();
      if (done) break;
      pieces.push(value);
      postMessage({ progress: value.length });
    }
    return new Uint8Array(await new Blob(pieces).arrayBuffer());
  } catch (error) {
    throw { what, why: error.message };
  }
}

async function start() {
  const wasm = await download(new URL("ort-wasm-simd-threaded.wasm", runtime), "runtime");
  try {
    ort = await import(new URL("ort.wasm.min.mjs", runtime));
  } catch (error) {
    throw { what: "runtime", why: error.message };
  }
  ort.env.wasm.wasmBinary = wasm.buffer;
  ort.env.wasm.wasmPaths = runtime.href;
  ort.env.wasm.numThreads = 1; // more need headers that a plain server does not send
  ort.env.logLevel = "fatal"; // what goes wrong is told on the page
}

async function load(model) {
  if (!ort) await start();
  const bytes = model ?? (await download(new URL("network.onnx", here), "network"));
  let made;
  try {
    made = await ort.InferenceSession.create(bytes, { executionProviders: ["wasm"] });
  } catch (error) {
    throw { what: model ? "own" : "network", why: error.message };
  }
  await session?.release();
  session = made;
  postMessage({ loaded: true });
}

async function run({ id, x, width, height }) {
  if (!session) throw { what: "run", why: "no network is loaded" };
  try {
    const started = performance.now();
    const input = new ort.Tensor("float32", x, [1, 1, height, width]);
    const found = await session.run({ [session.inputNames[0]]: input });
    const output = found[session.outputNames[0]];
    const milliseconds = performance.now() - started;
    const logits = new Float32Array(output.data);
    const answer = { id, logits, dims: output.dims, milliseconds };
    postMessage({ answer }, [logits.buffer]);
  } catch (error) {
    throw { what: "run", why: error.message };
  }
}

// One job after the other: a session computes one answer at a time.
let last = Promise.resolve();
onmessage = ({ data }) => {
  last = last
    .then(() => ("run" in data ? run(data.run) : load(data.load)))
    .catch((failed) => postMessage({ failed: { what: failed.what, why: failed.why } }));
};
