"""Exporters, which write a build in the formats of other trainers."""

from orca_recipes.contract.hooks import Offers, hookimpl


@hookimpl
def orca_exporters() -> Offers:
    return {
        "axolotl": "orca_plugins.exporters.axolotl:Axolotl",
        "bridge": "orca_plugins.exporters.bridge:Bridge",
        "hf": "orca_plugins.exporters.hf:HF",
        "llamafactory": "orca_plugins.exporters.llamafactory:LlamaFactory",
        "megatron-documents": "orca_plugins.exporters.megatron_documents:MegatronDocuments",
        "messages": "orca_plugins.exporters.messages_lines:Messages",
        "olmo": "orca_plugins.exporters.olmo:Olmo",
        "rl": "orca_plugins.exporters.rl:RL",
        "skyrl": "orca_plugins.exporters.skyrl:SkyRL",
    }
