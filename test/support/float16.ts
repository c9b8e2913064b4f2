/** onnxruntime-node 1.30 takes a Float16Array (Node 24 and later) for empty; where there is none, half precision is bits, as on Node 20. What the product does where there is one, its own processes show. */
delete (globalThis as { Float16Array?: unknown }).Float16Array;
