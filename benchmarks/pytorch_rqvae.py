"""The RQ-VAE's training in PyTorch, as fast as torch.compile makes it, to compare with.

Model, loss and optimiser are those of configs/rqvae.py: layers without biases, straight-through
residual quantisation, AdamW.

B batch   E embedding width   C code width   K codebook size
"""

import itertools
import time

import numpy as np
import torch
from torch.nn import functional


class RQVAE(torch.nn.Module):
    """Encoder, codebooks and the encoder's mirror image as decoder."""

    def __init__(self, dims: tuple[int, ...], num_levels: int, size: int, commitment: float):
        super().__init__()
        self.encoder, self.decoder = _mlp(dims), _mlp(dims[::-1])
        self.codebooks = torch.nn.ParameterList(
            torch.nn.Parameter(torch.randn(size, dims[-1])) for _ in range(num_levels)
        )
        self.commitment = commitment

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Returns the mean loss of x [B, E]."""
        latents = self.encoder(x)
        residual, embedding, losses = latents, torch.zeros_like(latents), []
        for codebook in self.codebooks:
            with torch.no_grad():
                lengths = (codebook**2).sum(-1) - 2 * residual @ codebook.T
                ids = (lengths + (residual**2).sum(-1, keepdim=True)).argmin(-1)
            codewords = functional.embedding(ids, codebook)
            losses.append(((residual.detach() - codewords) ** 2).sum(-1))
            losses.append(self.commitment * ((residual - codewords.detach()) ** 2).sum(-1))
            output = residual + (codewords - residual).detach()
            residual, embedding = residual - output, embedding + output
        losses.append(((self.decoder(embedding) - x) ** 2).sum(-1))
        return sum(losses).mean()


def _mlp(dims: tuple[int, ...]) -> torch.nn.Sequential:
    """Returns linear layers without biases, ReLU between them."""
    modules = []
    for n_in, n_out in itertools.pairwise(dims):
        modules += [torch.nn.Linear(n_in, n_out, bias=False), torch.nn.ReLU()]
    return torch.nn.Sequential(*modules[:-1])


def from_config(config, embedding_dim: int) -> RQVAE:
    """Returns the model of the settings of configs/rqvae.py."""
    settings = config.model
    dims = (embedding_dim, *settings.hidden_dims, settings.code_dim)
    return RQVAE(dims, settings.num_levels, settings.codebook_size, settings.commitment_weight)


def seconds(config, embeddings: np.ndarray, steps: int, repeats: int) -> list[float]:
    """Returns the seconds of `steps` steps of each repeat, on the CPU; compiles before."""
    torch.manual_seed(0)
    model = from_config(config, embeddings.shape[1])
    optimizer = torch.optim.AdamW(
        model.parameters(),
        lr=config.optimizer.learning_rate,
        weight_decay=config.optimizer.weight_decay,
        fused=True,
    )
    data, compiled = torch.from_numpy(embeddings), torch.compile(model)

    def train(steps):
        started = time.perf_counter()
        for _ in range(steps):
            indices = torch.randint(len(data), (config.batch_size,))
            optimizer.zero_grad()
            loss = compiled(data[indices])
            loss.backward()
            optimizer.step()
        loss.item()
        return time.perf_counter() - started

    train(3)
    return [train(steps) for _ in range(repeats)]
