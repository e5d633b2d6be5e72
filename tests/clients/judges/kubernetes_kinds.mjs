// The schemas of KEDA and the Prometheus operator, out of the packages of argv[2], judge each object of stdin.
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { pathToFileURL } from "node:url";

const packages = { "keda.sh": "keda", "monitoring.coreos.com": "prometheus-operator" };

for (const object of JSON.parse(readFileSync(0, "utf8"))) {
  const [group, version] = object.apiVersion.split("/");
  const of = join(process.argv[2], "node_modules/@kubernetes-models", packages[group], group, version);
  const Kind = (await import(pathToFileURL(join(of, object.kind + ".js"))))[object.kind];
  try {
    new Kind(object).validate();
    console.log("valid");
  } catch (error) {
    console.log(error.message);
  }
}
