// The gRPC server, called from Node: npm ci && node client.js 127.0.0.1:3001
import { fileURLToPath } from "node:url";
import { readFileSync } from "node:fs";
import grpc from "@grpc/grpc-js";
import { loadSync } from "@grpc/proto-loader";

const here = (path) => fileURLToPath(new URL(path, import.meta.url));
const { inference } = grpc.loadPackageDefinition(loadSync(here("../../bunriwiki/protocols/grpc/open_inference.proto")));
const client = new inference.GRPCInferenceService(process.argv[2] ?? "127.0.0.1:3001", grpc.credentials.createInsecure());

function infer(model, name, items) {
  const request = {
    modelName: model,
    inputs: [{ name, datatype: "BYTES", shape: [items.length], contents: { bytesContents: items } }],
  };
  return new Promise((resolve, reject) =>
    client.modelInfer(request, { deadline: Date.now() + 30_000 }, (error, answer) => (error ? reject(error) : resolve(answer))),
  );
}

const output = (answer, name) => answer.outputs.find((tensor) => tensor.name === name).contents;
const texts = ["정말 재미있어요", "돈이 아깝다"].map((text) => Buffer.from(text));
const sentiment = await infer("sentiment", "text", texts);
console.log("sentiment:", output(sentiment, "label").bytesContents.map(String).join(" "), "version", sentiment.modelVersion);
const yolo = await infer("yolo", "image", [readFileSync(here("../../tests/data/photos/plastic_bottle.jpg"))]);
console.log("yolo:", output(yolo, "labels").bytesContents.map(String).join(" "));
client.close();
